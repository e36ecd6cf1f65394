//! What an update weighs: a number that both sides of the comparison must come to.

use runloom_engine::Value;

/// The characters of all its texts, and one for every other scalar and list. Of a message only content and the arguments of tool calls.
pub fn weigh(value: &Value) -> u64 {
    match value {
        Value::String(s) => s.chars().count() as u64,
        Value::List(l) => 1 + l.iter().map(weigh).sum::<u64>(),
        Value::Object(o) if o.contains_key("additional_kwargs") => {
            let calls = o.get("tool_calls").and_then(Value::as_list);
            let args = calls.into_iter().flat_map(|l| l.iter()).filter_map(|c| c.get("args")).map(weigh).sum::<u64>();
            o.get("content").map_or(0, weigh) + args
        }
        Value::Object(o) => o.iter().map(|(_, v)| weigh(v)).sum(),
        _ => 1,
    }
}
