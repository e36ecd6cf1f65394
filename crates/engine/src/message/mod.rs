//! Typed messages: who speaks, and content blocks in their order. LangChain's JSON is one [codec](langchain) of them.

pub mod langchain;

use std::sync::Arc;

use crate::{
    Object, Value,
    model::{Delta, Usage},
    stream::{BlockPlace, BlockPlaces},
};

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its id; none for one that has none yet.
    pub id: Option<Arc<str>>,
    /// The author.
    pub role: Role,
    /// The author's name, where it has one.
    pub name: Option<Arc<str>>,
    /// The content, in the order in which the blocks started.
    pub content: Vec<ContentBlock>,
    /// Tokens used, for a message of a model.
    pub usage: Option<Usage>,
    /// What the provider says about its answer: finish reason, model name.
    pub response_metadata: Object,
}

/// The author of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the model.
    System,
    /// A user.
    Human,
    /// A model.
    #[default]
    Ai,
    /// A tool.
    Tool,
}

/// A block of a message's content.
#[derive(Clone, Debug, PartialEq)]
pub enum ContentBlock {
    /// Text.
    Text(String),
    /// Reasoning of the model before its answer.
    Reasoning(String),
    /// A call of a tool.
    ToolCall(ToolCall),
    /// An image, as LangChain's JSON.
    Image(Value),
    /// Audio.
    Audio(Value),
    /// A file.
    File(Value),
    /// A block of another type.
    Other(Value),
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// Its id, which the tool's message answers.
    pub id: Option<Arc<str>>,
    /// The tool.
    pub name: Option<Arc<str>>,
    /// The JSON text of the arguments, as the model wrote it.
    pub args: String,
}

impl ContentBlock {
    /// A whole block in LangChain's JSON, by its type.
    pub fn whole(block: Value) -> Self {
        match block.get_str("type") {
            Some("image" | "image_url") => Self::Image(block),
            Some("audio" | "input_audio") => Self::Audio(block),
            Some("file" | "document") => Self::File(block),
            _ => Self::Other(block),
        }
    }
}

impl Message {
    /// Adds a piece of a model's answer, whose blocks a [`BlockTracker`](crate::stream::BlockTracker) of the same message has
    /// numbered.
    pub fn add(&mut self, delta: &Delta, at: &BlockPlaces) {
        if !delta.reasoning.is_empty()
            && let Some(ContentBlock::Reasoning(text)) =
                self.block(at.reasoning, || ContentBlock::Reasoning(String::new()))
        {
            text.push_str(&delta.reasoning);
        }
        if !delta.text.is_empty()
            && let Some(ContentBlock::Text(text)) = self.block(at.text, || ContentBlock::Text(String::new()))
        {
            text.push_str(&delta.text);
        }
        for (block, index) in delta.blocks.iter().zip(at.whole..) {
            self.block(BlockPlace { index, starts: true }, || ContentBlock::whole(block.clone()));
        }
        for (piece, place) in delta.tool_calls.iter().zip(&at.calls) {
            if let Some(ContentBlock::ToolCall(call)) =
                self.block(*place, || ContentBlock::ToolCall(ToolCall::default()))
            {
                call.id = call.id.take().or_else(|| piece.id.clone());
                call.name = call.name.take().or_else(|| piece.name.clone());
                call.args.push_str(&piece.args);
            }
        }
        if let Some(usage) = delta.usage {
            *self.usage.get_or_insert_default() += usage;
        }
        for (key, value) in delta.response_metadata.iter().flat_map(Object::iter) {
            self.response_metadata.insert(key.clone(), value.clone());
        }
    }

    /// A block by its number: started where it is the next one.
    fn block(&mut self, place: BlockPlace, new: impl FnOnce() -> ContentBlock) -> Option<&mut ContentBlock> {
        let index = place.index as usize;
        if index == self.content.len() {
            self.content.push(new());
        }
        self.content.get_mut(index)
    }

    /// The calls of tools, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|block| match block {
            ContentBlock::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}
