//! Messages of models in LangChain's JSON.

use super::{ContentBlock, Message};
use crate::{List, Object, Value, model::Usage, value};

/// A message of a model: `AIMessage`. Text alone is a string; with anything else the content is a list of blocks. Calls of tools
/// stand beside it.
pub fn encode(message: Message) -> Value {
    let (mut calls, mut invalid) = (List::default(), List::default());
    for call in message.tool_calls() {
        let text = if call.args.trim().is_empty() { "{}" } else { &call.args };
        let parsed = Value::parse(text).ok().filter(|v| v.as_object().is_some());
        let mut fields = Object::default();
        fields.insert("name", Value::from(call.name.clone()));
        let is_valid = parsed.is_some();
        fields.insert("args", parsed.unwrap_or_else(|| Value::from(call.args.as_str())));
        fields.insert("id", Value::from(call.id.clone()));
        if is_valid {
            fields.insert("type", "tool_call");
            calls.push(Value::Object(fields));
        } else {
            fields.insert("error", "the arguments are not a JSON object");
            fields.insert("type", "invalid_tool_call");
            invalid.push(Value::Object(fields));
        }
    }
    let mut o = Object::default();
    o.insert("content", content(message.content));
    o.insert("additional_kwargs", Value::object());
    o.insert("response_metadata", Value::Object(message.response_metadata));
    o.insert("type", "ai");
    o.insert("name", Value::from(message.name));
    o.insert("id", Value::from(message.id));
    o.insert("tool_calls", Value::List(calls));
    o.insert("invalid_tool_calls", Value::List(invalid));
    o.insert("usage_metadata", message.usage.map(usage_metadata).unwrap_or_default());
    Value::Object(o)
}

fn content(blocks: Vec<ContentBlock>) -> Value {
    let is_prose = |block: &ContentBlock| matches!(block, ContentBlock::Text(_) | ContentBlock::ToolCall(_));
    if blocks.iter().all(is_prose) {
        let texts = blocks.into_iter().filter_map(|block| match block {
            ContentBlock::Text(text) => Some(text),
            _ => None,
        });
        return Value::from(texts.collect::<String>());
    }
    let list = blocks.into_iter().filter_map(|block| match block {
        ContentBlock::Text(text) => Some(value!({"type": "text", "text": text})),
        ContentBlock::Reasoning(text) => Some(value!({"type": "reasoning", "reasoning": text})),
        ContentBlock::ToolCall(_) => None,
        ContentBlock::Image(block)
        | ContentBlock::Audio(block)
        | ContentBlock::File(block)
        | ContentBlock::Other(block) => Some(block),
    });
    Value::List(list.collect())
}

/// Usage in LangChain's form.
pub fn usage_metadata(usage: Usage) -> Value {
    let mut o = value!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    });
    if let Value::Object(o) = &mut o {
        if usage.cached_tokens > 0 {
            o.insert("input_token_details", value!({"cache_read": usage.cached_tokens}));
        }
        if usage.reasoning_tokens > 0 {
            o.insert("output_token_details", value!({"reasoning": usage.reasoning_tokens}));
        }
    }
    o
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Delta, ToolCallDelta},
        stream::BlockTracker,
    };

    fn encoded(deltas: &[Delta]) -> Value {
        let (mut message, mut tracker) = (Message::default(), BlockTracker::default());
        for delta in deltas {
            message.add(delta, &tracker.place(delta));
        }
        encode(message)
    }

    #[test]
    fn text_is_a_string_and_blocks_keep_their_order() {
        let call = |args: &str| Delta {
            tool_calls: vec![ToolCallDelta {
                name: Some("look".into()),
                args: args.into(),
                ..ToolCallDelta::default()
            }],
            ..Delta::default()
        };
        let said = encoded(&[Delta::text("a"), Delta::text("b"), call("{\"x\":"), call("1}"), Delta::end()]);
        assert_eq!(said.get("content"), Some(&value!("ab")));
        let calls = value!([{"name": "look", "args": {"x": 1}, "id": null, "type": "tool_call"}]);
        assert_eq!(said.get("tool_calls"), Some(&calls));
        let thought = Delta { reasoning: "hm".into(), ..Delta::default() };
        let image = Delta { blocks: vec![value!({"type": "image", "url": "u"})], ..Delta::default() };
        let mixed = encoded(&[thought, Delta::text("see"), image, Delta::text("done"), Delta::end()]);
        let blocks = value!([
            {"type": "reasoning", "reasoning": "hm"},
            {"type": "text", "text": "see"},
            {"type": "image", "url": "u"},
            {"type": "text", "text": "done"},
        ]);
        assert_eq!(mixed.get("content"), Some(&blocks));
        let broken = encoded(&[call("{"), Delta::end()]);
        assert_eq!(broken.get("invalid_tool_calls").and_then(Value::as_list).map(List::len), Some(1));
    }
}
