//! A piece of a message as the log keeps it: what is empty is left out.

use std::sync::Arc;

use runloom_engine::{
    Object, Value,
    model::{ToolCallDelta, Usage},
    stream::{BlockPlace, BlockPlaces, Chunk},
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
    /// Content blocks; left out of text that extends block 0, and unknown in other chunks of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<StoredPlaces>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<Object>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    l: bool,
}

/// The content blocks of a chunk, as stored.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct StoredPlaces {
    /// The block of the text, then that of the reasoning, then those of the tool calls; a block that starts is its complement
    /// (`-1 - index`).
    #[serde(skip_serializing_if = "is_zero")]
    t: i64,
    #[serde(skip_serializing_if = "is_zero")]
    r: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    c: Vec<i64>,
    #[serde(skip_serializing_if = "no_block")]
    w: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    f: Vec<u32>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn no_block(n: &u32) -> bool {
    *n == 0
}

impl StoredPlaces {
    fn of(at: &BlockPlaces, is_text: bool) -> Option<Self> {
        let is_plain = is_text && *at == BlockPlaces::extends(0);
        let stored = |place: &BlockPlace| {
            if place.starts { -1 - i64::from(place.index) } else { i64::from(place.index) }
        };
        (at.is_known && !is_plain).then(|| Self {
            t: stored(&at.text),
            r: stored(&at.reasoning),
            c: at.calls.iter().map(stored).collect(),
            w: at.whole,
            f: at.finished.clone(),
        })
    }

    fn places(self) -> BlockPlaces {
        let index = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        let place = |n: i64| BlockPlace { index: index(if n < 0 { -1 - n } else { n }), starts: n < 0 };
        BlockPlaces {
            is_known: true,
            text: place(self.t),
            reasoning: place(self.r),
            whole: self.w,
            calls: self.c.into_iter().map(place).collect(),
            finished: self.f,
        }
    }
}

impl KeptChunk {
    pub fn of(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Whole(message) => Self { w: Some(message.clone()), ..Self::default() },
            Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, at, usage, response_metadata, last } => {
                Self {
                    a: StoredPlaces::of(at, reasoning.is_empty() && blocks.is_empty() && tool_calls.is_empty()),
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
                }
            }
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
                at: match self.a {
                    Some(stored) => stored.places(),
                    // Text alone of an earlier version is in block 0 too, as far as that is known.
                    None if self.r.is_empty() && self.b.is_empty() && self.c.is_empty() => BlockPlaces::extends(0),
                    None => BlockPlaces::default(),
                },
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

#[cfg(test)]
mod tests {
    use runloom_engine::{model::Delta, stream::BlockTracker};

    use super::*;

    fn chunk(delta: Delta, at: BlockPlaces) -> Chunk {
        Chunk::Delta {
            id: "m".into(),
            name: None,
            text: delta.text.into(),
            reasoning: delta.reasoning.into(),
            blocks: delta.blocks,
            tool_calls: delta.tool_calls,
            at,
            usage: None,
            response_metadata: None,
            last: delta.last,
        }
    }

    #[test]
    fn blocks_come_back_and_a_token_stores_nothing_of_them() {
        let call = |index| ToolCallDelta { index, ..ToolCallDelta::default() };
        let deltas = [
            Delta { reasoning: "hm".into(), ..Delta::default() },
            Delta::text("Hello"),
            Delta::text(" you"),
            Delta { blocks: vec![Value::from("image")], ..Delta::default() },
            Delta { tool_calls: vec![call(0), call(1)], ..Delta::default() },
            Delta::end(),
        ];
        let mut tracker = BlockTracker::default();
        for delta in deltas {
            let at = tracker.place(&delta);
            let chunk = chunk(delta, at);
            let stored = serde_json::to_string(&KeptChunk::of(&chunk)).unwrap();
            let back = serde_json::from_str::<KeptChunk>(&stored).unwrap().chunk();
            assert_eq!(*back, chunk, "{stored}");
        }
        let token = serde_json::to_string(&KeptChunk::rest(&chunk(Delta::text("a"), BlockPlaces::extends(0)))).unwrap();
        assert_eq!(token, r#"{"t":"a"}"#);
    }

    #[test]
    fn chunks_of_earlier_versions_are_read() {
        let read = |stored: &str| match &*serde_json::from_str::<KeptChunk>(stored).unwrap().chunk() {
            Chunk::Delta { at, .. } => at.clone(),
            Chunk::Whole(_) => panic!("{stored}"),
        };
        assert_eq!(read(r#"{"i":"m","t":"a"}"#), BlockPlaces::extends(0));
        assert!(!read(r#"{"i":"m","r":"hm"}"#).is_known);
        assert!(!read(r#"{"i":"m","c":[[0,"id","name","{}"]]}"#).is_known);
    }
}
