//! Ollama's chat: a line of JSON for each piece.

use serde_json::{Value, json};

use crate::Answer;

/// A line.
pub fn line(answer: Answer, message: Value) -> Answer {
    answer.bytes(format!(
        "{}\n",
        json!({"model": "told-1", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": false})
    ))
}

/// The last line: 8 tokens in, 3 out.
pub fn end(answer: Answer) -> Answer {
    let last = json!({
        "model": "told-1", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
        "prompt_eval_count": 8, "eval_count": 3,
    });
    answer.bytes(format!("{last}\n"))
}

/// An answer of text.
pub fn text(pieces: &[&str]) -> Answer {
    let start = Answer { headers: vec![("content-type".into(), "application/x-ndjson".into())], ..Answer::events() };
    end(pieces.iter().fold(start, |answer, piece| line(answer, json!({"role": "assistant", "content": piece}))))
}
