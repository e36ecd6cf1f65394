//! Pieces of messages: from deltas of models, and from whole messages in LangChain's JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use runloom::{
    json::NotExact,
    v1::{
        ContentBlock, JsonEncoding, Media, MessageChunk, MessageRole, Reasoning, ToolCallChunk, Usage,
        content_block::Block, media::Source,
    },
};
use runloom_engine::{
    Object, Value,
    model::ToolCallDelta,
    stream::{BlockPlace, Chunk, MessagePart},
};

use crate::json::{encode, encode_object};

/// Where the pieces of a streamed message stand in its content. Not every message has all of them.
const TEXT: u32 = 0;
const REASONING: u32 = 1;
const FIRST_BLOCK: u32 = 2;

/// A part of mode messages. `first` says that the stream has sent nothing of the message yet; without an encoding the
/// content is left out; `blocks` is how many blocks of the message came before.
pub(crate) fn message(
    part: &MessagePart,
    first: bool,
    blocks: u32,
    encoding: Option<JsonEncoding>,
) -> Result<MessageChunk, NotExact> {
    let mut chunk = chunk(&part.chunk, first, blocks, encoding)?;
    if !first {
        return Ok(chunk);
    }
    if let Some(task) = &part.meta.task {
        chunk.node = task.node.to_string();
    }
    if let Some(name) = &part.name {
        chunk.model = name.to_string();
    }
    chunk.tags = part.meta.tags.iter().chain(part.tags.iter()).map(ToString::to_string).collect();
    if let Some(encoding) = encoding
        && !part.meta.metadata.is_empty()
    {
        chunk.metadata = Some(encode_object(&part.meta.metadata, encoding)?);
    }
    Ok(chunk)
}

/// A chunk by itself, as it also stands in events.
pub(crate) fn chunk(
    chunk: &Chunk,
    first: bool,
    blocks: u32,
    encoding: Option<JsonEncoding>,
) -> Result<MessageChunk, NotExact> {
    match chunk {
        Chunk::Whole(message) => whole(message, encoding),
        Chunk::Delta {
            id,
            name,
            text,
            reasoning,
            blocks: new,
            tool_calls,
            at: places,
            usage: used,
            response_metadata,
            last,
        } => {
            let mut chunk = MessageChunk { message_id: id.to_string(), last: *last, ..MessageChunk::default() };
            if first {
                chunk.role = MessageRole::Ai.into();
                chunk.name = name.as_deref().unwrap_or_default().to_owned();
            }
            chunk.usage = used.map(usage);
            let Some(encoding) = encoding else { return Ok(chunk) };
            if !reasoning.is_empty() {
                let block = Reasoning { text: reasoning.to_string(), signature: String::new() };
                let BlockPlace { index, starts } = places.reasoning;
                let index = if places.is_known { index } else { REASONING };
                chunk.content.push(ContentBlock { index, start: starts, block: Some(Block::Reasoning(block)) });
            }
            if !text.is_empty() {
                let BlockPlace { index, starts } = places.text;
                let index = if places.is_known { index } else { TEXT };
                chunk.content.push(ContentBlock { index, start: starts, block: Some(Block::Text(text.to_string())) });
            }
            let first = if places.is_known { places.whole } else { FIRST_BLOCK + blocks };
            for (index, value) in (first..).zip(new) {
                let block = Some(block(value, encoding)?);
                chunk.content.push(ContentBlock { index, start: places.is_known, block });
            }
            chunk.tool_call_chunks = tool_calls.iter().map(tool_call).collect();
            for (call, place) in chunk.tool_call_chunks.iter_mut().zip(&places.calls) {
                (call.block_index, call.start) = (Some(place.index), place.starts);
            }
            chunk.finished_blocks.clone_from(&places.finished);
            if let Some(said) = response_metadata {
                chunk.response_metadata = Some(encode_object(said, encoding)?);
            }
            Ok(chunk)
        }
    }
}

fn tool_call(delta: &ToolCallDelta) -> ToolCallChunk {
    ToolCallChunk {
        index: delta.index,
        id: delta.id.as_deref().unwrap_or_default().to_owned(),
        name: delta.name.as_deref().unwrap_or_default().to_owned(),
        args: delta.args.clone(),
        ..ToolCallChunk::default()
    }
}

/// A whole message as the one and last chunk of itself.
fn whole(message: &Value, encoding: Option<JsonEncoding>) -> Result<MessageChunk, NotExact> {
    let text = |key| message.get_str(key).unwrap_or_default().to_owned();
    let role = match message.get_str("type").or_else(|| message.get_str("role")) {
        Some("human" | "user") => MessageRole::Human,
        Some("ai" | "assistant" | "AIMessageChunk") => MessageRole::Ai,
        Some("system" | "developer") => MessageRole::System,
        Some("tool") => MessageRole::Tool,
        _ => MessageRole::Unspecified,
    };
    let mut chunk = MessageChunk {
        message_id: text("id"),
        role: role.into(),
        name: text("name"),
        tool_call_id: text("tool_call_id"),
        tool_error: role == MessageRole::Tool && message.get_str("status") == Some("error"),
        usage: message.get("usage_metadata").and_then(Value::as_object).map(usage_metadata),
        last: true,
        ..MessageChunk::default()
    };
    let Some(encoding) = encoding else { return Ok(chunk) };
    match message.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::List(blocks)) => {
            for (index, value) in (0..).zip(blocks.iter()) {
                chunk.content.push(ContentBlock { index, start: true, block: Some(block(value, encoding)?) });
            }
        }
        Some(value) => {
            chunk.content.push(ContentBlock { index: 0, start: true, block: Some(block(value, encoding)?) });
        }
    }
    let blocks = chunk.content.len();
    for key in ["tool_calls", "invalid_tool_calls"] {
        for call in message.get(key).and_then(Value::as_list).into_iter().flat_map(|calls| calls.iter()) {
            let args = match call.get("args") {
                Some(Value::String(text)) => text.to_string(),
                Some(args) => args.to_string(),
                None => String::new(),
            };
            chunk.tool_call_chunks.push(ToolCallChunk {
                index: u32::try_from(chunk.tool_call_chunks.len()).unwrap_or(u32::MAX),
                id: call.get_str("id").unwrap_or_default().to_owned(),
                name: call.get_str("name").unwrap_or_default().to_owned(),
                args,
                block_index: u32::try_from(blocks + chunk.tool_call_chunks.len()).ok(),
                start: true,
            });
        }
    }
    // What is whole starts and ends here.
    let has_block = |block: &ContentBlock| matches!(block.block, Some(Block::Text(_) | Block::Reasoning(_)));
    let prose = chunk.content.iter().filter(|block| has_block(block)).map(|block| block.index);
    chunk.finished_blocks = prose.chain(chunk.tool_call_chunks.iter().filter_map(|call| call.block_index)).collect();
    if let Some(said) = message.get("response_metadata").and_then(Value::as_object).filter(|o| !o.is_empty()) {
        chunk.response_metadata = Some(encode_object(said, encoding)?);
    }
    Ok(chunk)
}

/// A content block in LangChain's JSON. What has no type of its own here is handed on as it is.
fn block(value: &Value, encoding: JsonEncoding) -> Result<Block, NotExact> {
    let typed = match value {
        Value::String(text) => Some(Block::Text(text.to_string())),
        Value::Object(fields) => typed(fields),
        _ => None,
    };
    match typed {
        Some(block) => Ok(block),
        None => encode(value, encoding).map(Block::Other),
    }
}

fn typed(fields: &Object) -> Option<Block> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    match text("type")? {
        "text" => text("text").map(|text| Block::Text(text.to_owned())),
        "reasoning" | "thinking" => {
            let thought = text("reasoning").or_else(|| text("thinking")).or_else(|| text("text"))?;
            let extras = fields.get("extras").and_then(|e| e.get_str("signature"));
            let signature = text("signature").or(extras).unwrap_or_default();
            Some(Block::Reasoning(Reasoning { text: thought.to_owned(), signature: signature.to_owned() }))
        }
        "image" => media(fields).map(Block::Image),
        "image_url" => {
            let url = fields.get("image_url")?;
            from_url(url.as_str().or_else(|| url.get_str("url"))?).map(Block::Image)
        }
        "audio" => media(fields).map(Block::Audio),
        "input_audio" => {
            let audio = fields.get("input_audio")?;
            let data = BASE64.decode(audio.get_str("data")?).ok()?;
            let mime_type = format!("audio/{}", audio.get_str("format")?);
            Some(Block::Audio(Media { source: Some(Source::Data(data.into())), mime_type, filename: String::new() }))
        }
        "file" => media(fields).map(Block::File),
        _ => None,
    }
}

/// `url`, `base64` (or `data`), or `file_id` (or `id`), with a type and a name.
fn media(fields: &Object) -> Option<Media> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let data = text("base64").or_else(|| text("data"));
    let source = match (text("url"), data, text("file_id")) {
        (Some(url), None, _) if url.starts_with("data:") => return from_url(url),
        (Some(url), ..) => Source::Url(url.to_owned()),
        (None, Some(data), _) => Source::Data(BASE64.decode(data).ok()?.into()),
        (None, None, Some(id)) => Source::FileId(id.to_owned()),
        (None, None, None) => return None,
    };
    Some(Media {
        source: Some(source),
        mime_type: text("mime_type").unwrap_or_default().to_owned(),
        filename: text("filename").or_else(|| text("name")).unwrap_or_default().to_owned(),
    })
}

/// An address, or the data that is in it.
fn from_url(url: &str) -> Option<Media> {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let (source, mime_type) = match inline {
        Some((mime_type, data)) => (Source::Data(BASE64.decode(data).ok()?.into()), mime_type.to_owned()),
        None => (Source::Url(url.to_owned()), String::new()),
    };
    Some(Media { source: Some(source), mime_type, filename: String::new() })
}

/// What models used.
pub(crate) fn usage(usage: runloom_engine::model::Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        cache_read_tokens: usage.cached_tokens,
        cache_creation_tokens: 0,
        reasoning_tokens: usage.reasoning_tokens,
    }
}

/// LangChain's `usage_metadata`.
fn usage_metadata(fields: &Object) -> Usage {
    let number = |key: &str| fields.get(key).and_then(Value::as_u64).unwrap_or(0);
    let detail = |of: &str, key: &str| fields.get(of).and_then(|d| d.get(key)?.as_u64()).unwrap_or(0);
    let (input_tokens, output_tokens) = (number("input_tokens"), number("output_tokens"));
    let total = fields.get("total_tokens").and_then(Value::as_u64);
    Usage {
        input_tokens,
        output_tokens,
        total_tokens: total.unwrap_or(input_tokens.saturating_add(output_tokens)),
        cache_read_tokens: detail("input_token_details", "cache_read"),
        cache_creation_tokens: detail("input_token_details", "cache_creation"),
        reasoning_tokens: detail("output_token_details", "reasoning"),
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::{stream::BlockPlaces, value};

    use super::*;

    fn of(message: Value) -> MessageChunk {
        chunk(&Chunk::Whole(message), true, 0, Some(JsonEncoding::Text)).unwrap()
    }

    #[test]
    fn a_whole_message_is_one_chunk() {
        let ai = of(value!({
            "type": "ai", "id": "m", "name": "bot", "content": "hi", "response_metadata": {"finish_reason": "stop"},
            "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "c", "type": "tool_call"}],
            "invalid_tool_calls": [{"name": "sub", "args": "{", "id": "d"}],
            "usage_metadata": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 9,
                "input_token_details": {"cache_read": 2, "cache_creation": 1}, "output_token_details": {"reasoning": 1}},
        }));
        assert_eq!((ai.message_id.as_str(), ai.role(), ai.name.as_str(), ai.last), ("m", MessageRole::Ai, "bot", true));
        assert_eq!(ai.content, [ContentBlock { index: 0, start: true, block: Some(Block::Text("hi".into())) }]);
        let calls: Vec<_> = ai.tool_call_chunks.iter().map(|c| (c.index, &*c.id, &*c.name, &*c.args)).collect();
        assert_eq!(calls, [(0, "c", "add", "{\"a\":1}"), (1, "d", "sub", "{")]);
        let usage = ai.usage.unwrap();
        assert_eq!((usage.total_tokens, usage.cache_read_tokens, usage.cache_creation_tokens), (9, 2, 1));
        assert_eq!(ai.response_metadata.unwrap().decode().unwrap()["finish_reason"], "stop");

        let tool = of(value!({"type": "tool", "content": "no", "tool_call_id": "c", "status": "error", "id": "t"}));
        assert_eq!((tool.role(), tool.tool_call_id.as_str(), tool.tool_error), (MessageRole::Tool, "c", true));
        let nothing = of(value!({"type": "human", "content": "", "id": "h"}));
        assert_eq!((nothing.role(), nothing.content.len()), (MessageRole::Human, 0));
    }

    #[test]
    fn blocks_have_their_types() {
        let message = of(value!({"type": "ai", "id": "m", "content": [
            "plain",
            {"type": "text", "text": "t"},
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "image", "base64": "AQI=", "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AQ=="}},
            {"type": "image_url", "image_url": "https://example.org/a.png"},
            {"type": "input_audio", "input_audio": {"data": "AQ==", "format": "wav"}},
            {"type": "file", "file_id": "f", "filename": "a.pdf"},
            {"type": "image", "base64": "not base64!"},
            {"type": "poem", "lines": [1.0]},
            7,
        ]}));
        let mut blocks = message.content.into_iter().zip(0..).map(|(block, at)| {
            assert_eq!(block.index, at);
            block.block.unwrap()
        });
        let mut next = || blocks.next().unwrap();
        let data = |bytes: &'static [u8]| Some(Source::Data(bytes.into()));
        assert_eq!(next(), Block::Text("plain".into()));
        assert_eq!(next(), Block::Text("t".into()));
        assert_eq!(next(), Block::Reasoning(Reasoning { text: "hm".into(), signature: "s".into() }));
        assert!(matches!(next(), Block::Image(m) if m.source == data(&[1, 2]) && m.mime_type == "image/png"));
        assert!(matches!(next(), Block::Image(m) if m.source == data(&[1]) && m.mime_type == "image/gif"));
        assert!(matches!(next(), Block::Image(m) if matches!(&m.source, Some(Source::Url(u)) if u.ends_with("a.png"))));
        assert!(matches!(next(), Block::Audio(m) if m.mime_type == "audio/wav"));
        assert!(
            matches!(next(), Block::File(m) if m.filename == "a.pdf" && m.source == Some(Source::FileId("f".into())))
        );
        for _ in 0..3 {
            assert!(matches!(next(), Block::Other(_)));
        }
    }

    #[test]
    fn only_the_first_piece_says_who_speaks() {
        let delta = |text: &str, last| Chunk::Delta {
            id: "m".into(),
            name: Some("bot".into()),
            text: text.into(),
            reasoning: "".into(),
            blocks: vec![value!({"type": "image", "url": "u"})],
            tool_calls: vec![],
            at: BlockPlaces::default(),
            usage: None,
            response_metadata: None,
            last,
        };
        let first = chunk(&delta("a", false), true, 0, Some(JsonEncoding::Text)).unwrap();
        assert_eq!((first.role(), first.name.as_str(), first.last), (MessageRole::Ai, "bot", false));
        assert_eq!(first.content.iter().map(|b| b.index).collect::<Vec<_>>(), [0, 2]);
        let later = chunk(&delta("b", true), false, 1, Some(JsonEncoding::Text)).unwrap();
        assert_eq!((later.role(), later.name.as_str(), later.last), (MessageRole::Unspecified, "", true));
        assert_eq!(later.content.iter().map(|b| b.index).collect::<Vec<_>>(), [0, 3]);
        let bare = chunk(&delta("b", true), false, 1, None).unwrap();
        assert!(bare.content.is_empty());
        assert_eq!(bare.message_id, "m");
    }
}
