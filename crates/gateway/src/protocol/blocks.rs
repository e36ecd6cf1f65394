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

/// The messages of a run that have begun and not ended.
#[derive(Default)]
pub(super) struct Messages {
    open: HashMap<Arc<str>, Message>,
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
    pub fn push(&mut self, chunk: &Chunk, attempt: u32) -> Vec<Value> {
        let Chunk::Delta { id, text, reasoning, blocks, tool_calls, usage, response_metadata, last, .. } = chunk else {
            return Vec::new();
        };
        let mut out = Vec::new();
        if self.open.get(id).is_some_and(|message| message.attempt != attempt) {
            self.open.remove(id);
        }
        let message = self.open.entry(id.clone()).or_insert_with(|| {
            out.push(value!({"event": "message-start", "role": "ai", "id": id.to_string()}));
            Message { attempt, ..Message::default() }
        });
        message.extend_prose(reasoning, true, &mut out);
        message.extend_prose(text, false, &mut out);
        for block in blocks {
            out.push(started(message.blocks.len(), block.clone()));
            message.blocks.push(Block::Other(block.clone()));
        }
        for piece in tool_calls {
            message.extend_call(piece, &mut out);
        }
        if let Some(more) = usage {
            *message.usage.get_or_insert_default() += *more;
        }
        for (key, value) in response_metadata.iter().flat_map(Object::iter) {
            message.metadata.insert(key.clone(), value.clone());
        }
        if *last && let Some(message) = self.open.remove(id) {
            message.finish(&mut out);
        }
        out
    }

    /// Forgets what has begun: an attempt that was cut off does not finish its messages.
    pub fn clear(&mut self) {
        self.open.clear();
    }
}

impl Message {
    fn extend_prose(&mut self, piece: &str, is_reasoning: bool, out: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        let found = self.blocks.iter_mut().enumerate().find_map(|(at, block)| match block {
            Block::Reasoning(so_far) if is_reasoning => Some((at, so_far)),
            Block::Text(so_far) if !is_reasoning => Some((at, so_far)),
            _ => None,
        });
        let at = match found {
            Some((at, so_far)) => {
                so_far.push_str(piece);
                at
            }
            None => {
                let (at, text) = (self.blocks.len(), piece.to_owned());
                out.push(started(at, prose(is_reasoning, "")));
                self.blocks.push(if is_reasoning { Block::Reasoning(text) } else { Block::Text(text) });
                at
            }
        };
        let delta = if is_reasoning {
            value!({"type": "reasoning-delta", "reasoning": piece})
        } else {
            value!({"type": "text-delta", "text": piece})
        };
        out.push(extended(at, delta));
    }

    fn extend_call(&mut self, piece: &ToolCallDelta, out: &mut Vec<Value>) {
        let known = self.blocks.iter().position(|b| matches!(b, Block::Call { index, .. } if *index == piece.index));
        let at = known.unwrap_or_else(|| {
            let at = self.blocks.len();
            let content = object! {
                "type" => "tool_call_chunk",
                "id" => Value::from(piece.id.clone()),
                "name" => Value::from(piece.name.clone()),
                "args" => "",
                "index" => piece.index,
            };
            out.push(started(at, content.into()));
            self.blocks.push(Block::Call { index: piece.index, id: None, name: None, args: String::new() });
            at
        });
        if let Some(Block::Call { id, name, args, .. }) = self.blocks.get_mut(at) {
            *id = id.take().or_else(|| piece.id.clone());
            *name = name.take().or_else(|| piece.name.clone());
            args.push_str(&piece.args);
        }
        if !piece.args.is_empty() {
            out.push(extended(at, value!({"type": "tool-call-delta", "args": piece.args.as_str()})));
        }
    }

    fn finish(self, out: &mut Vec<Value>) {
        for (at, block) in self.blocks.into_iter().enumerate() {
            let content = match block {
                Block::Text(text) => prose(false, &text),
                Block::Reasoning(text) => prose(true, &text),
                Block::Call { id, name, args, .. } => call(id, name, &args),
                Block::Other(content) => content,
            };
            out.push(finished(at, content));
        }
        let mut end = object! { "event" => "message-finish" };
        if let Some(usage) = self.usage {
            end.insert(
                "usage",
                value!({
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "total_tokens": usage.input_tokens + usage.output_tokens,
                }),
            );
        }
        if !self.metadata.is_empty() {
            end.insert("metadata", self.metadata);
        }
        out.push(end.into());
    }
}

/// The events of a tool's answer, a message of its own.
pub(super) fn tool_message(message: &Object, call: &str) -> Vec<Value> {
    let id = message.get_str("id").map_or_else(|| format!("tool-{call}"), str::to_owned);
    let mut out = vec![value!({"event": "message-start", "role": "tool", "id": id, "tool_call_id": call})];
    let blocks: Vec<Value> = match message.get("content") {
        Some(Value::String(text)) => vec![prose(false, text)],
        Some(Value::List(blocks)) => blocks.iter().cloned().collect(),
        _ => Vec::new(),
    };
    for (at, block) in blocks.iter().enumerate() {
        match block.get_str("text").filter(|_| block.get_str("type") == Some("text")) {
            Some(text) => {
                out.push(started(at, prose(false, "")));
                // LangGraph's server calls the piece of a tool's message `content`, where the published types say `delta`.
                out.push(block_event("content-block-delta", at, "content", prose(false, text)));
            }
            None => out.push(started(at, block.clone())),
        }
    }
    out.extend(blocks.into_iter().enumerate().map(|(at, block)| finished(at, block)));
    out.push(value!({"event": "message-finish", "metadata": {}}));
    out
}

fn prose(is_reasoning: bool, text: &str) -> Value {
    if is_reasoning { value!({"type": "reasoning", "reasoning": text}) } else { value!({"type": "text", "text": text}) }
}

fn call(id: Option<Arc<str>>, name: Option<Arc<str>>, args: &str) -> Value {
    let parsed = if args.is_empty() { Ok(Value::object()) } else { Value::parse(args) };
    let mut o = object! { "id" => Value::from(id), "name" => Value::from(name) };
    match parsed {
        Ok(args @ Value::Object(_)) => {
            o.insert("type", "tool_call");
            o.insert("args", args);
        }
        _ => {
            o.insert("type", "invalid_tool_call");
            o.insert("args", args);
            o.insert("error", "Failed to parse tool call arguments as JSON");
        }
    }
    o.into()
}

fn started(index: usize, content: Value) -> Value {
    block_event("content-block-start", index, "content", content)
}

fn extended(index: usize, delta: Value) -> Value {
    block_event("content-block-delta", index, "delta", delta)
}

fn finished(index: usize, content: Value) -> Value {
    block_event("content-block-finish", index, "content", content)
}

fn block_event(event: &str, index: usize, key: &'static str, value: Value) -> Value {
    let mut o = object! { "event" => event, "index" => index as u64 };
    o.insert(key, value);
    o.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> Chunk {
        Chunk::Delta {
            id: "m".into(),
            name: None,
            text: text.into(),
            reasoning: "".into(),
            blocks: Vec::new(),
            tool_calls: Vec::new(),
            usage: None,
            response_metadata: None,
            last: text.is_empty(),
        }
    }

    #[test]
    fn a_further_attempt_starts_its_message_again() {
        let mut messages = Messages::default();
        let mut events = messages.push(&piece("By noon the"), 1);
        for text in ["By noon", " it rained", ""] {
            events.extend(messages.push(&piece(text), 2));
        }
        let kinds: Vec<&str> = events.iter().filter_map(|e| e.get_str("event")).collect();
        let begin = ["message-start", "content-block-start", "content-block-delta"];
        let rest = ["content-block-delta", "content-block-finish", "message-finish"];
        assert_eq!(kinds, [&begin[..], &begin, &rest].concat());
        let whole = events[7].get("content").and_then(|content| content.get_str("text"));
        assert_eq!(whole, Some("By noon it rained"));
    }
}
