//! Anthropic's messages, as a stream.

use serde_json::{Value, json};

use crate::Answer;

/// An event: its name is its type.
pub fn event(answer: Answer, data: Value) -> Answer {
    let name = data.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    answer.bytes(format!("event: {name}\ndata: {data}\n\n"))
}

/// The beginning: 5 tokens in, beside 3 read from a cache and 2 written to one.
pub fn begin() -> Answer {
    let usage =
        json!({"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "told-1", "content": [], "stop_reason": null, "usage": usage});
    event(event(Answer::events(), json!({"type": "message_start", "message": message})), json!({"type": "ping"}))
}

/// A content block with its deltas.
pub fn block(answer: Answer, index: u32, start: Value, deltas: impl IntoIterator<Item = Value>) -> Answer {
    let begun = event(answer, json!({"type": "content_block_start", "index": index, "content_block": start}));
    let said = deltas.into_iter().fold(begun, |answer, delta| {
        event(answer, json!({"type": "content_block_delta", "index": index, "delta": delta}))
    });
    event(said, json!({"type": "content_block_stop", "index": index}))
}

/// A block of text.
pub fn said(answer: Answer, index: u32, pieces: &[&str]) -> Answer {
    let deltas = pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece}));
    block(answer, index, json!({"type": "text", "text": ""}), deltas)
}

/// A call of a tool.
pub fn calling(answer: Answer, index: u32, id: &str, name: &str, args: &[&str]) -> Answer {
    let deltas = args.iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
    block(answer, index, json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas)
}

/// A block of thinking with its signature.
pub fn thinking(answer: Answer, index: u32, pieces: &[&str], signature: &str) -> Answer {
    let thought = pieces.iter().map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
    let signed = thought.chain([json!({"type": "signature_delta", "signature": signature})]);
    block(answer, index, json!({"type": "thinking", "thinking": "", "signature": ""}), signed)
}

/// The end: 9 tokens out.
pub fn end(answer: Answer, why: &str) -> Answer {
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": why, "stop_sequence": null}, "usage": {"output_tokens": 9}});
    event(event(answer, delta), json!({"type": "message_stop"}))
}

/// An answer of text.
pub fn text(pieces: &[&str]) -> Answer {
    end(said(begin(), 0, pieces), "end_turn")
}

/// An error in the middle of a stream.
pub fn broken(answer: Answer, kind: &str, message: &str) -> Answer {
    event(answer, json!({"type": "error", "error": {"type": kind, "message": message}}))
}

/// An error instead of an answer.
pub fn error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
}
