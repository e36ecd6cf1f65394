//! OpenAI's chat completions, as a stream.

use serde_json::{Value, json};

use crate::Answer;

/// A chunk with a delta.
pub fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "told-1", "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        "usage": null,
    })
}

/// A piece of text.
pub fn said(text: &str) -> Value {
    chunk(json!({"content": text}), None)
}

/// The last chunks: why it ends, and what was used.
pub fn end(answer: Answer, why: &str) -> Answer {
    answer.data(chunk(json!({}), Some(why))).data(usage()).data("[DONE]")
}

/// What was used: 12 tokens in, 4 of them cached; 7 out, 3 of them reasoning.
pub fn usage() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "told-1", "choices": [],
        "usage": {
            "prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3},
        },
    })
}

/// The beginning of an answer of text: its role, and each piece in a chunk of its own.
pub fn begin(pieces: &[&str]) -> Answer {
    let start = Answer::events().data(chunk(json!({"role": "assistant", "content": "", "refusal": null}), None));
    pieces.iter().fold(start, |answer, piece| answer.data(said(piece)))
}

/// An answer of text.
pub fn text(pieces: &[&str]) -> Answer {
    end(begin(pieces), "stop")
}

/// An answer that calls a tool; its arguments in pieces.
pub fn call(id: &str, name: &str, args: &[&str]) -> Answer {
    end(calling(begin(&[]), 0, id, name, args), "tool_calls")
}

/// A call of a tool in the middle of an answer.
pub fn calling(answer: Answer, index: u32, id: &str, name: &str, args: &[&str]) -> Answer {
    let first = json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    args.iter().fold(answer.data(chunk(first, None)), |answer, piece| {
        answer.data(chunk(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), None))
    })
}

/// An error instead of an answer.
pub fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({"error": {"message": message, "type": "told", "param": null, "code": null}}))
}
