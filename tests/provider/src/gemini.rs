//! Gemini's stream of contents.

use serde_json::{Value, json};

use crate::Answer;

/// A frame with parts of the answer.
pub fn parts(answer: Answer, parts: Value, finish: Option<&str>) -> Answer {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    let usage = json!({"promptTokenCount": 11, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "cachedContentTokenCount": 1, "totalTokenCount": 17});
    answer
        .data(json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "told-1", "responseId": "r1"}))
}

/// An answer of text.
pub fn text(pieces: &[&str]) -> Answer {
    let said = pieces.iter().fold(Answer::events(), |answer, piece| parts(answer, json!([{"text": piece}]), None));
    parts(said, json!([{"text": ""}]), Some("STOP"))
}
