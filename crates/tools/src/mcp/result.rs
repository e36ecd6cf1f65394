//! What a tool of an MCP server gave, in LangChain's form.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use runloom_engine::{List, Value, value};

/// What a tool gave.
#[derive(Clone, Debug, PartialEq)]
pub struct McpResult {
    /// A text, or content blocks: `{type: text, text}`, `{type: image, base64, mime_type}`.
    pub content: Value,
    /// What it gave for programs: `{structured_content: …}`; null where it gave none.
    pub artifact: Value,
    /// True where the tool says that it failed.
    pub is_error: bool,
}

impl McpResult {
    /// The content's text, for an error.
    pub fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.to_string(),
            Value::List(blocks) => {
                let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get_str("text")).collect();
                texts.join("\n")
            }
            _ => String::new(),
        }
    }
}

impl From<CallToolResult> for McpResult {
    fn from(result: CallToolResult) -> Self {
        let mut blocks: Vec<Value> = result.content.into_iter().map(block).collect();
        let content = match &blocks[..] {
            [] => Value::from(""),
            [one] if one.get_str("type") == Some("text") => one.get("text").cloned().unwrap_or_default(),
            _ => Value::List(blocks.drain(..).collect::<List>()),
        };
        let artifact = match result.structured_content {
            Some(structured) => value!({"structured_content": Value::from(&structured)}),
            None => Value::Null,
        };
        Self { content, artifact, is_error: result.is_error.unwrap_or(false) }
    }
}

fn block(block: ContentBlock) -> Value {
    let file = |kind: &str, data: String, mime: Option<String>| value!({"type": kind, "base64": data, "mime_type": mime.unwrap_or_else(|| "application/octet-stream".to_owned())});
    match block {
        ContentBlock::Text(text) => value!({"type": "text", "text": text.text}),
        ContentBlock::Image(image) => file("image", image.data, Some(image.mime_type)),
        ContentBlock::Audio(audio) => file("audio", audio.data, Some(audio.mime_type)),
        ContentBlock::Resource(resource) => match resource.resource {
            ResourceContents::TextResourceContents { text, .. } => value!({"type": "text", "text": text}),
            ResourceContents::BlobResourceContents { blob, mime_type, .. } => {
                let kind = if mime_type.as_deref().is_some_and(|m| m.starts_with("image/")) { "image" } else { "file" };
                file(kind, blob, mime_type)
            }
            _ => value!({"type": "text", "text": "(a resource of an unknown kind)"}),
        },
        ContentBlock::ResourceLink(link) => value!({"type": "text", "text": format!("{}: {}", link.name, link.uri)}),
        _ => value!({"type": "text", "text": "(content of an unknown kind)"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_a_text_and_all_else_are_blocks() {
        let read = |json: serde_json::Value| McpResult::from(serde_json::from_value::<CallToolResult>(json).unwrap());
        let text = serde_json::json!({"type": "text", "text": "a"});
        let one = read(serde_json::json!({"content": [text], "structuredContent": {"n": 1}}));
        assert_eq!((one.content, one.artifact), (value!("a"), value!({"structured_content": {"n": 1}})));
        let image = serde_json::json!({"type": "image", "data": "AAAA", "mimeType": "image/png"});
        let two = read(serde_json::json!({"content": [text, image], "isError": true}));
        assert!(two.is_error && two.artifact.is_null() && two.text() == "a");
        let blocks = value!([
            {"type": "text", "text": "a"}, {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
        ]);
        assert_eq!(two.content, blocks);
        assert_eq!(read(serde_json::json!({"content": []})).content, value!(""));
    }
}
