//! A piece of a message as the log keeps it: what is empty is left out.

use std::sync::Arc;

use runloom_engine::{
    Object, Value,
    model::{ToolCallDelta, Usage},
    stream::Chunk,
};
use serde::{Deserialize, Serialize};

/// A piece of a message: what is empty is left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct KeptChunk {
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    i: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<Arc<str>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    t: Arc<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    r: Arc<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    b: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    c: Vec<(u32, Option<Arc<str>>, Option<Arc<str>>, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<Object>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    l: bool,
}

impl KeptChunk {
    pub fn of(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Whole(message) => Self { w: Some(message.clone()), ..Self::default() },
            Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, usage, response_metadata, last } => Self {
                w: None,
                i: id.clone(),
                n: name.clone(),
                t: text.clone(),
                r: reasoning.clone(),
                b: blocks.clone(),
                c: tool_calls.iter().map(|c| (c.index, c.id.clone(), c.name.clone(), c.args.clone())).collect(),
                u: *usage,
                m: response_metadata.clone(),
                l: *last,
            },
        }
    }

    /// Without whose it is, which the piece before has said.
    pub fn rest(chunk: &Chunk) -> Self {
        Self { i: Arc::default(), n: None, ..Self::of(chunk) }
    }

    /// What was left out by [`rest`](Self::rest) taken from the piece before.
    pub fn after(self, before: &Chunk) -> Option<Arc<Chunk>> {
        let Chunk::Delta { id, name, .. } = before else { return None };
        Some(Self { i: id.clone(), n: name.clone(), ..self }.chunk())
    }

    pub fn chunk(self) -> Arc<Chunk> {
        Arc::new(match self.w {
            Some(message) => Chunk::Whole(message),
            None => Chunk::Delta {
                id: self.i,
                name: self.n,
                text: self.t,
                reasoning: self.r,
                blocks: self.b,
                tool_calls: self
                    .c
                    .into_iter()
                    .map(|(index, id, name, args)| ToolCallDelta { index, id, name, args })
                    .collect(),
                usage: self.u,
                response_metadata: self.m,
                last: self.l,
            },
        })
    }
}
