//! Pieces of messages as content blocks: each block is started, extended and finished under its index.
//!
//! The engine's chunks do not say which block they extend, so it follows from their kind: a message has one block of text,
//! one of reasoning, one for each tool call, in the order of their first pieces.

use std::{collections::HashMap, sync::Arc};

use runloom_engine::{
    Object, Value,
    model::{ToolCallDelta, Usage},
    stream::Chunk,
    value,
};

use super::event::{Delta, MessageEvent};

/// The messages of a run that have begun and not ended.
#[derive(Default)]
pub(super) struct Messages {
    open: HashMap<Arc<str>, Message>,
}

/// Receives events. With `counts_only` they are counted: nothing is built, and no text is gathered.
pub(super) struct Sink {
    /// The message that the events are of.
    pub id: Arc<str>,
    pub events: Vec<MessageEvent>,
    pub count: u64,
    pub counts_only: bool,
}

impl Sink {
    pub fn new(counts_only: bool) -> Self {
        Self { id: Arc::default(), events: Vec::new(), count: 0, counts_only }
    }

    fn push(&mut self, event: impl FnOnce() -> MessageEvent) {
        self.count += 1;
        if !self.counts_only {
            self.events.push(event());
        }
    }
}

#[derive(Default)]
struct Message {
    /// Which try of its task says it.
    attempt: u32,
    blocks: Vec<Block>,
    usage: Option<Usage>,
    metadata: Object,
}

enum Block {
    Text(String),
    Reasoning(String),
    Call { index: u32, id: Option<Arc<str>>, name: Option<Arc<str>>, args: String },
    Other(Value),
}

impl Messages {
    /// The events of a piece of an attempt of a task, in order. A whole message that a node returned has none: it is in the
    /// state. A further attempt starts its messages again.
    pub fn push(&mut self, chunk: &Chunk, attempt: u32, out: &mut Sink) {
        let Chunk::Delta { id, text, reasoning, blocks, tool_calls, usage, response_metadata, last, .. } = chunk else {
            return;
        };
        out.id = id.clone();
        if self.open.get(id).is_some_and(|message| message.attempt != attempt) {
            self.open.remove(id);
        }
        let message = self.open.entry(id.clone()).or_insert_with(|| {
            out.push(|| MessageEvent::Start { id: id.clone(), tool_call: None });
            Message { attempt, ..Message::default() }
        });
        message.extend_prose(reasoning, true, out);
        message.extend_prose(text, false, out);
        for block in blocks {
            let index = message.blocks.len();
            out.push(|| MessageEvent::BlockStart { index, content: block.clone() });
            message.blocks.push(Block::Other(block.clone()));
        }
        for piece in tool_calls {
            message.extend_call(piece, out);
        }
        if !out.counts_only {
            if let Some(more) = usage {
                *message.usage.get_or_insert_default() += *more;
            }
            for (key, value) in response_metadata.iter().flat_map(Object::iter) {
                message.metadata.insert(key.clone(), value.clone());
            }
        }
        if *last && let Some(message) = self.open.remove(id) {
            message.finish(out);
        }
    }

    /// Forgets what has begun: an attempt that was cut off does not finish its messages.
    pub fn clear(&mut self) {
        self.open.clear();
    }
}

impl Message {
    fn extend_prose(&mut self, piece: &Arc<str>, is_reasoning: bool, out: &mut Sink) {
        if piece.is_empty() {
            return;
        }
        let found = self.blocks.iter_mut().enumerate().find_map(|(at, block)| match block {
            Block::Reasoning(so_far) if is_reasoning => Some((at, so_far)),
            Block::Text(so_far) if !is_reasoning => Some((at, so_far)),
            _ => None,
        });
        let gathered = if out.counts_only { "" } else { &**piece };
        let index = match found {
            Some((index, so_far)) => {
                so_far.push_str(gathered);
                index
            }
            None => {
                let (index, text) = (self.blocks.len(), gathered.to_owned());
                out.push(|| MessageEvent::BlockStart { index, content: prose(is_reasoning, "") });
                self.blocks.push(if is_reasoning { Block::Reasoning(text) } else { Block::Text(text) });
                index
            }
        };
        out.push(|| {
            let delta = if is_reasoning { Delta::Reasoning(piece.clone()) } else { Delta::Text(piece.clone()) };
            MessageEvent::BlockDelta { index, delta }
        });
    }

    fn extend_call(&mut self, piece: &ToolCallDelta, out: &mut Sink) {
        let known = self.blocks.iter().position(|b| matches!(b, Block::Call { index, .. } if *index == piece.index));
        let index = known.unwrap_or_else(|| {
            let index = self.blocks.len();
            out.push(|| {
                let (id, name) = (Value::from(piece.id.clone()), Value::from(piece.name.clone()));
                let content =
                    value!({"type": "tool_call_chunk", "id": id, "name": name, "args": "", "index": piece.index});
                MessageEvent::BlockStart { index, content }
            });
            self.blocks.push(Block::Call { index: piece.index, id: None, name: None, args: String::new() });
            index
        });
        if !out.counts_only
            && let Some(Block::Call { id, name, args, .. }) = self.blocks.get_mut(index)
        {
            *id = id.take().or_else(|| piece.id.clone());
            *name = name.take().or_else(|| piece.name.clone());
            args.push_str(&piece.args);
        }
        if !piece.args.is_empty() {
            out.push(|| MessageEvent::BlockDelta { index, delta: Delta::Args(piece.args.as_str().into()) });
        }
    }

    fn finish(self, out: &mut Sink) {
        // A model that reasons gives its content in numbered blocks, one that does not as text.
        let is_numbered = self.blocks.iter().any(|block| matches!(block, Block::Reasoning(_)));
        for (index, block) in self.blocks.into_iter().enumerate() {
            out.push(|| {
                let mut content = match block {
                    Block::Text(text) => prose(false, &text),
                    Block::Reasoning(text) => prose(true, &text),
                    Block::Call { id, name, args, .. } => {
                        return MessageEvent::BlockFinish { index, content: call(id, name, &args) };
                    }
                    Block::Other(content) => return MessageEvent::BlockFinish { index, content },
                };
                if is_numbered && let Value::Object(content) = &mut content {
                    content.insert("index", index as u64);
                }
                MessageEvent::BlockFinish { index, content }
            });
        }
        let metadata = Some(self.metadata).filter(|metadata| !metadata.is_empty());
        out.push(|| MessageEvent::Finish { usage: self.usage, metadata });
    }
}

/// The events of a tool's answer, a message of its own.
pub(super) fn tool_message(message: &Object, call: &Arc<str>, out: &mut Sink) {
    let id: Arc<str> = message.get_str("id").map_or_else(|| format!("tool-{call}").into(), Arc::from);
    out.id = id.clone();
    out.push(|| MessageEvent::Start { id, tool_call: Some(call.clone()) });
    let blocks: Vec<Value> = match message.get("content") {
        Some(Value::String(text)) => vec![prose(false, text)],
        Some(Value::List(blocks)) => blocks.iter().cloned().collect(),
        _ => Vec::new(),
    };
    for (index, block) in blocks.iter().enumerate() {
        match block.get_str("text").filter(|_| block.get_str("type") == Some("text")) {
            Some(text) => {
                out.push(|| MessageEvent::BlockStart { index, content: prose(false, "") });
                out.push(|| MessageEvent::BlockDelta { index, delta: Delta::ToolText(text.into()) });
            }
            None => out.push(|| MessageEvent::BlockStart { index, content: block.clone() }),
        }
    }
    for (index, content) in blocks.into_iter().enumerate() {
        out.push(|| MessageEvent::BlockFinish { index, content });
    }
    out.push(|| MessageEvent::Finish { usage: None, metadata: Some(Object::default()) });
}

fn prose(is_reasoning: bool, text: &str) -> Value {
    if is_reasoning { value!({"type": "reasoning", "reasoning": text}) } else { value!({"type": "text", "text": text}) }
}

fn call(id: Option<Arc<str>>, name: Option<Arc<str>>, args: &str) -> Value {
    let parsed = if args.is_empty() { Ok(Value::object()) } else { Value::parse(args) };
    let (id, name) = (Value::from(id), Value::from(name));
    match parsed {
        Ok(args @ Value::Object(_)) => value!({"type": "tool_call", "id": id, "name": name, "args": args}),
        _ => value!({
            "type": "invalid_tool_call",
            "id": id,
            "name": name,
            "args": args,
            "error": "Failed to parse tool call arguments as JSON",
        }),
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::stream::BlockPlaces;

    use super::*;

    fn piece(text: &str) -> Chunk {
        Chunk::Delta {
            id: "m".into(),
            name: None,
            text: text.into(),
            reasoning: "".into(),
            blocks: Vec::new(),
            tool_calls: Vec::new(),
            at: BlockPlaces::default(),
            usage: None,
            response_metadata: None,
            last: text.is_empty(),
        }
    }

    #[test]
    fn a_further_attempt_starts_its_message_again() {
        let (mut messages, mut sink) = (Messages::default(), Sink::new(false));
        messages.push(&piece("By noon the"), 1, &mut sink);
        for text in ["By noon", " it rained", ""] {
            messages.push(&piece(text), 2, &mut sink);
        }
        use MessageEvent as M;
        let content = value!({"type": "text", "text": ""});
        let start = M::Start { id: "m".into(), tool_call: None };
        let block = M::BlockStart { index: 0, content };
        let delta = |text: &str| M::BlockDelta { index: 0, delta: Delta::Text(text.into()) };
        let whole = M::BlockFinish { index: 0, content: value!({"type": "text", "text": "By noon it rained"}) };
        let end = M::Finish { usage: None, metadata: None };
        let first = [start.clone(), block.clone(), delta("By noon the")];
        let second = [start, block, delta("By noon"), delta(" it rained"), whole, end];
        assert_eq!(sink.events, [&first[..], &second].concat());
    }
}
