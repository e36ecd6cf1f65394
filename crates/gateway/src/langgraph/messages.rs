//! Messages as they stream: LangChain's `AIMessageChunk`, and the message so far.

use runloom_engine::{
    List, Object, Value,
    model::{ToolCallDelta, Usage},
    stream::Chunk,
    value,
};

/// A piece of a message: an `AIMessageChunk`, or the whole message where it is one.
pub fn chunk(chunk: &Chunk) -> Value {
    match chunk {
        Chunk::Whole(message) => message.clone(),
        Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, usage, response_metadata, last, .. } => {
            let mut o = base("AIMessageChunk", content(text, reasoning, blocks), id, name.as_deref());
            o.insert("response_metadata", response_metadata.clone().unwrap_or_default());
            o.insert("tool_calls", parsed(tool_calls));
            o.insert("invalid_tool_calls", value!([]));
            o.insert("usage_metadata", usage.map(usage_metadata).unwrap_or_default());
            let pieces = tool_calls.iter().map(|c| {
                let mut o = Object::default();
                o.insert("name", Value::from(c.name.clone()));
                o.insert("args", c.args.as_str());
                o.insert("id", Value::from(c.id.clone()));
                o.insert("index", c.index);
                o.insert("type", "tool_call_chunk");
                Value::Object(o)
            });
            o.insert("tool_call_chunks", pieces.collect::<List>());
            o.insert("chunk_position", if *last { Value::from("last") } else { Value::Null });
            Value::Object(o)
        }
    }
}

fn base(kind: &str, content: Value, id: &str, name: Option<&str>) -> Object {
    let mut o = Object::default();
    o.insert("content", content);
    o.insert("additional_kwargs", Value::object());
    o.insert("response_metadata", Value::object());
    o.insert("type", kind);
    o.insert("name", Value::from(name.map(str::to_owned)));
    o.insert("id", id);
    o
}

/// Text alone is a string; with anything else, the content is a list of blocks.
fn content(text: &str, reasoning: &str, blocks: &[Value]) -> Value {
    if reasoning.is_empty() && blocks.is_empty() {
        return Value::from(text);
    }
    let mut list = List::default();
    if !reasoning.is_empty() {
        list.push(value!({"type": "reasoning", "reasoning": reasoning}));
    }
    if !text.is_empty() {
        list.push(value!({"type": "text", "text": text}));
    }
    list.extend(blocks.iter().cloned());
    Value::List(list)
}

/// The tool calls whose arguments are whole, as far as these pieces tell.
fn parsed(pieces: &[ToolCallDelta]) -> Value {
    let calls = pieces.iter().filter(|c| c.name.is_some()).filter_map(|c| {
        let args = if c.args.is_empty() { Value::object() } else { Value::parse(&c.args).ok()? };
        args.as_object()?;
        let mut o = Object::default();
        o.insert("name", Value::from(c.name.clone()));
        o.insert("args", args);
        o.insert("id", Value::from(c.id.clone()));
        o.insert("type", "tool_call");
        Some(Value::Object(o))
    });
    calls.collect::<List>().into()
}

fn usage_metadata(usage: Usage) -> Value {
    value!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}

/// A message as it is put together, for mode `messages`.
#[derive(Default)]
pub struct Partial {
    text: String,
    reasoning: String,
    blocks: Vec<Value>,
    calls: Vec<ToolCallDelta>,
    usage: Option<Usage>,
    response_metadata: Object,
}

/// Adds a piece, and gives the message so far.
pub fn partial(so_far: &mut Partial, piece: &Chunk) -> Value {
    let Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, usage, response_metadata, .. } = piece else {
        return chunk(piece);
    };
    so_far.text.push_str(text);
    so_far.reasoning.push_str(reasoning);
    so_far.blocks.extend(blocks.iter().cloned());
    for piece in tool_calls {
        match so_far.calls.iter_mut().find(|c| c.index == piece.index) {
            Some(call) => {
                call.args.push_str(&piece.args);
                call.id = call.id.take().or_else(|| piece.id.clone());
                call.name = call.name.take().or_else(|| piece.name.clone());
            }
            None => so_far.calls.push(piece.clone()),
        }
    }
    if let Some(more) = usage {
        *so_far.usage.get_or_insert_default() += *more;
    }
    for (key, value) in response_metadata.iter().flat_map(Object::iter) {
        so_far.response_metadata.insert(key.clone(), value.clone());
    }
    let mut o = base("ai", content(&so_far.text, &so_far.reasoning, &so_far.blocks), id, name.as_deref());
    o.insert("response_metadata", so_far.response_metadata.clone());
    o.insert("tool_calls", parsed(&so_far.calls));
    o.insert("invalid_tool_calls", value!([]));
    o.insert("usage_metadata", so_far.usage.map(usage_metadata).unwrap_or_default());
    Value::Object(o)
}
