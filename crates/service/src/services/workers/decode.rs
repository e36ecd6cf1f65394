//! What a worker sends of a task, as the core takes it. Errors say what cannot be used; the task fails with them.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use runloom::v1::{self, ContentBlock, Json, MessageRole, StreamMode, content_block::Block, done, emit, media::Source};
use runloom_engine::{
    Goto, NodeFailure, Object, Update, Value,
    command::Send,
    model::{ToolCallDelta, Usage},
    stream::{BlockPlaces, Chunk, EventData, Mode},
    value,
};
use runloom_workers::{Event, Failure, Outcome, Part, Question, Retryable, ToolOutcome};

use super::MAX_DETAILS_BYTES;
use crate::convert::event::kind_inside;

type Result<T, E = String> = std::result::Result<T, E>;

fn json(path: &str, json: Option<Json>) -> Result<Option<Value>> {
    json.map(crate::json::decode).transpose().map_err(|error| format!("{path}: {error}"))
}

fn object(path: &str, json: Option<Json>) -> Result<Object> {
    match self::json(path, json)? {
        None | Some(Value::Null) => Ok(Object::default()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(other) => Err(format!("{path}: it takes an object, not {}", other.kind())),
    }
}

/// The outcome of a task.
pub(super) fn outcome(done: v1::Done) -> Result<Outcome> {
    match done.outcome {
        None => Err("done.outcome: missing".to_owned()),
        Some(done::Outcome::Update(update)) => {
            let (updates, goto, to_parent) = node_update("done.update", update)?;
            Ok(Outcome::Node { updates, goto, to_parent })
        }
        Some(done::Outcome::Interrupts(interrupts)) => {
            if interrupts.questions.is_empty() {
                return Err("done.interrupts: it has no question".to_owned());
            }
            let mut questions = Vec::with_capacity(interrupts.questions.len());
            for (at, question) in interrupts.questions.into_iter().enumerate() {
                let path = format!("done.interrupts.questions[{at}]");
                questions.push(Question {
                    index: question.index as usize,
                    value: json(&format!("{path}.value"), question.value)?.unwrap_or_default(),
                    response_schema: json(&format!("{path}.response_schema"), question.response_schema)?,
                });
            }
            questions.sort_by_key(|question| question.index);
            Ok(Outcome::Questions(questions))
        }
        Some(done::Outcome::Failure(failure)) => {
            let mut details = failure.details;
            details.truncate(details.floor_char_boundary(MAX_DETAILS_BYTES));
            Ok(Outcome::Failed(Failure {
                kind: failure.r#type,
                message: failure.message,
                details,
                retryable: match v1::Retryable::try_from(failure.retryable) {
                    Ok(v1::Retryable::Yes) => Retryable::Yes,
                    Ok(v1::Retryable::No) => Retryable::No,
                    _ => Retryable::Policy,
                },
                retry_delay: failure.retry_delay.and_then(|delay| delay.try_into().ok()),
            }))
        }
        Some(done::Outcome::ToolResult(result)) => Ok(Outcome::Tool(ToolOutcome {
            content: json("done.tool_result.content", result.content)?.unwrap_or_default(),
            artifact: json("done.tool_result.artifact", result.artifact)?.unwrap_or_default(),
            is_error: result.is_error,
            command: result.command.map(|command| node_update("done.tool_result.command", command)).transpose()?,
        })),
        Some(done::Outcome::Route(route)) => Ok(Outcome::Route(gotos("done.route.goto", route.goto)?)),
        Some(done::Outcome::Value(value)) => Ok(Outcome::Value(json("done.value", Some(value))?.unwrap_or_default())),
    }
}

fn node_update(path: &str, update: v1::NodeUpdate) -> Result<(Vec<Update>, Vec<Goto>, bool)> {
    let one = |value: &Value| match value {
        Value::Object(fields) => Ok(Update {
            writes: fields.iter().map(|(channel, value)| (channel.clone(), value.clone())).collect(),
            fault: None,
        }),
        other => Err(format!("{path}.update: it takes an object of writes by channel, not {}", other.kind())),
    };
    let updates = match json(&format!("{path}.update"), update.update)? {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(list)) => list.iter().map(one).collect::<Result<_>>()?,
        Some(value) => vec![one(&value)?],
    };
    Ok((updates, gotos(&format!("{path}.goto"), update.goto)?, update.to_parent))
}

fn gotos(path: &str, gotos: Vec<v1::Goto>) -> Result<Vec<Goto>> {
    let mut to = Vec::with_capacity(gotos.len());
    for (at, goto) in gotos.into_iter().enumerate() {
        if goto.node.is_empty() {
            return Err(format!("{path}[{at}].node: missing"));
        }
        to.push(match json(&format!("{path}[{at}].input"), goto.input)? {
            Some(input) => Goto::Send(Send { node: goto.node.into(), input }),
            None => Goto::Node(goto.node.into()),
        });
    }
    Ok(to)
}

/// A part of the run's stream; none where it holds nothing that this server knows.
pub(super) fn part(emit: v1::Emit) -> Result<Option<Part>> {
    Ok(match emit.part {
        None => None,
        Some(emit::Part::Custom(custom)) => json("emit.custom", Some(custom))?.map(Part::Custom),
        Some(emit::Part::Chunk(emitted)) => {
            let Some(message) = emitted.chunk else { return Err("emit.chunk.chunk: missing".to_owned()) };
            let model = Some(message.model.as_str()).filter(|name| !name.is_empty()).map(Arc::from);
            Some(Part::Chunk {
                chunk: Arc::new(chunk("emit.chunk.chunk", message)?),
                model,
                tags: emitted.tags.into_iter().map(Arc::from).collect(),
                namespace: emitted.namespace.join("|"),
            })
        }
        Some(emit::Part::Event(event)) => Some(Part::Event(Box::new(self::event(event)?))),
        Some(emit::Part::Nested(nested)) => {
            let mode = StreamMode::try_from(nested.mode).ok().and_then(|mode| Mode::of_grpc(mode.as_str_name()));
            let Some(mode) = mode else { return Err("emit.nested.mode: missing".to_owned()) };
            let payload = json("emit.nested.payload", nested.payload)?.unwrap_or_default();
            Some(Part::Nested { namespace: nested.namespace.join("|"), mode, payload })
        }
    })
}

fn event(event: v1::EmittedEvent) -> Result<Event> {
    let id = |path: &str, text: &str| text.parse().map_err(|_| format!("{path}: not a UUID"));
    let Some(kind) = v1::EventKind::try_from(event.kind).ok().and_then(kind_inside) else {
        return Err("emit.event.kind: missing".to_owned());
    };
    let data = event.data.unwrap_or_default();
    let chunk = data.message_chunk.map(|message| chunk("emit.event.data.message_chunk", *message)).transpose()?;
    Ok(Event {
        kind,
        name: event.name.into(),
        id: if event.run_id.is_empty() { uuid::Uuid::nil() } else { id("emit.event.run_id", &event.run_id)? },
        parents: event.parent_ids.iter().map(|text| id("emit.event.parent_ids", text)).collect::<Result<_>>()?,
        tags: event.tags.into_iter().map(Arc::from).collect(),
        metadata: object("emit.event.metadata", event.metadata)?,
        data: EventData {
            input: json("emit.event.data.input", data.input)?,
            output: json("emit.event.data.output", data.output)?,
            chunk: chunk.map(Arc::new),
            update: json("emit.event.data.chunk", data.chunk)?,
            custom: json("emit.event.data.custom", data.custom)?,
            error: data.error.map(|error| NodeFailure::new(error.r#type, error.message)),
            tool_call: None,
        },
    })
}

/// A piece of a message. One that is not a model's comes whole.
fn chunk(path: &str, message: v1::MessageChunk) -> Result<Chunk> {
    if message.message_id.is_empty() {
        return Err(format!("{path}.message_id: missing"));
    }
    let role = message.role();
    let (mut text, mut reasoning, mut blocks) = (String::new(), String::new(), Vec::new());
    for (at, ContentBlock { block, .. }) in message.content.into_iter().enumerate() {
        match block {
            None => {}
            Some(Block::Text(piece)) => text.push_str(&piece),
            Some(Block::Reasoning(piece)) if piece.signature.is_empty() => reasoning.push_str(&piece.text),
            Some(Block::Reasoning(piece)) => {
                blocks.push(value!({"type": "reasoning", "reasoning": piece.text, "signature": piece.signature}));
            }
            Some(Block::Image(media)) => blocks.push(self::media("image", media)),
            Some(Block::Audio(media)) => blocks.push(self::media("audio", media)),
            Some(Block::File(media)) => blocks.push(self::media("file", media)),
            Some(Block::Other(other)) => {
                blocks.extend(json(&format!("{path}.content[{at}].other"), Some(other))?);
            }
        }
    }
    let name = |text: String| Some(text).filter(|text| !text.is_empty()).map(Arc::<str>::from);
    let response_metadata = match message.response_metadata {
        Some(said) => Some(object(&format!("{path}.response_metadata"), Some(said))?),
        None => None,
    };
    if !matches!(role, MessageRole::Ai | MessageRole::Unspecified) {
        let content = match blocks.is_empty() {
            true => Value::from(text),
            false => {
                let text = (!text.is_empty()).then(|| value!({"type": "text", "text": text}));
                Value::from(text.into_iter().chain(blocks).collect::<Vec<_>>())
            }
        };
        let kind = match role {
            MessageRole::Human => "human",
            MessageRole::Tool => "tool",
            _ => "system",
        };
        let mut whole = Object::default();
        whole.insert("content", content);
        whole.insert("additional_kwargs", Value::object());
        whole.insert("response_metadata", response_metadata.unwrap_or_default());
        whole.insert("type", kind);
        whole.insert("name", Value::from(name(message.name)));
        whole.insert("id", message.message_id);
        if role == MessageRole::Tool {
            whole.insert("tool_call_id", message.tool_call_id);
            whole.insert("artifact", Value::Null);
            whole.insert("status", if message.tool_error { "error" } else { "success" });
        }
        return Ok(Chunk::Whole(Value::Object(whole)));
    }
    let tool_calls = message.tool_call_chunks.into_iter().map(|call| ToolCallDelta {
        index: call.index,
        id: name(call.id),
        name: name(call.name),
        args: call.args,
    });
    Ok(Chunk::Delta {
        id: message.message_id.into(),
        name: name(message.name),
        text: text.into(),
        reasoning: reasoning.into(),
        blocks,
        tool_calls: tool_calls.collect(),
        // Workers do not number blocks.
        at: BlockPlaces::default(),
        usage: message.usage.map(|usage| Usage {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cache_read_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }),
        response_metadata,
        last: message.last,
    })
}

/// A content block in LangChain's JSON.
fn media(kind: &str, media: v1::Media) -> Value {
    let mut block = Object::default();
    block.insert("type", kind);
    match media.source {
        Some(Source::Url(url)) => block.insert("url", url),
        Some(Source::Data(data)) => block.insert("base64", BASE64.encode(data)),
        Some(Source::FileId(id)) => block.insert("file_id", id),
        None => {}
    }
    if !media.mime_type.is_empty() {
        block.insert("mime_type", media.mime_type);
    }
    if !media.filename.is_empty() {
        block.insert("filename", media.filename);
    }
    Value::Object(block)
}
