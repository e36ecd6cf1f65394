//! What the frames of an answer have in common, whatever the provider.

use runloom_engine::{
    Object, Value,
    model::{Delta, ToolCallDelta, Usage},
    value,
};
use serde_json::{Map, Value as Json};

use super::{
    ProviderKind,
    fault::Fault,
    request::{SIGNATURES, THINKING},
    wire,
};

/// An answer while it is read.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What the frames since the last `take` add to the message.
    pub delta: Delta,
    /// The provider began a content block, of which nothing has come yet.
    pub begins_block: bool,
    /// True once the provider said that the answer is complete.
    pub is_complete: bool,
    /// True once nothing more is to be read.
    pub is_over: bool,
    pub usage: Option<Usage>,
    pub model: Option<String>,
    pub id: Option<String>,
    pub finish_reason: Option<String>,
    pub fingerprint: Option<String>,
    pub refusal: String,
    /// The tool calls begun: the provider's number or id of each.
    begun: Vec<String>,
    /// Anthropic's thinking blocks.
    pub thinking: Vec<Map<String, Json>>,
    /// Gemini's signatures, by the id of the call.
    pub signatures: Object,
}

impl Answer {
    /// Reads a frame.
    pub fn read(&mut self, kind: ProviderKind, frame: &[u8]) -> Result<(), Fault> {
        match kind {
            ProviderKind::OpenAi => wire::openai::read(self, frame),
            ProviderKind::Anthropic => wire::anthropic::read(self, frame),
            ProviderKind::Gemini => wire::gemini::read(self, frame),
            ProviderKind::Ollama => wire::ollama::read(self, frame),
        }
    }

    /// What the frames so far add to the message, if anything.
    pub fn take(&mut self) -> Option<Delta> {
        let is_empty = self.delta.text.is_empty()
            && self.delta.reasoning.is_empty()
            && self.delta.tool_calls.is_empty()
            && self.delta.blocks.is_empty();
        if !(self.delta.text.is_empty() && self.delta.reasoning.is_empty()) {
            self.delta.new_block = std::mem::take(&mut self.begins_block);
        }
        (!is_empty).then(|| std::mem::take(&mut self.delta))
    }

    /// The last delta: usage, and the metadata in LangChain's names.
    pub fn finish(&mut self, kind: ProviderKind) -> Delta {
        let mut delta = std::mem::take(&mut self.delta);
        if !self.refusal.is_empty() {
            let refusal = std::mem::take(&mut self.refusal);
            delta.blocks.push(value!({"type": "refusal", "refusal": refusal}));
        }
        let mut metadata = Object::default();
        metadata.insert("model_provider", kind.name());
        let mut set = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                metadata.insert(name, text);
            }
        };
        set("model_name", self.model.take());
        match kind {
            ProviderKind::Anthropic => set("stop_reason", self.finish_reason.clone()),
            ProviderKind::Ollama => set("done_reason", self.finish_reason.clone()),
            _ => {}
        }
        set("finish_reason", self.finish_reason.take());
        set("id", self.id.take());
        set("system_fingerprint", self.fingerprint.take());
        if !self.thinking.is_empty() {
            let blocks = std::mem::take(&mut self.thinking);
            metadata.insert(THINKING, Value::from(Json::from_iter(blocks.into_iter().map(Json::Object))));
        }
        if !self.signatures.is_empty() {
            metadata.insert(SIGNATURES, Value::Object(std::mem::take(&mut self.signatures)));
        }
        delta.response_metadata = Some(metadata);
        delta.usage = self.usage.take();
        delta.last = true;
        delta
    }

    /// The index of a tool call, by what the provider calls it; and whether it begins here.
    pub fn call_index(&mut self, call: String) -> (u32, bool) {
        let found = self.begun.iter().position(|begun| *begun == call);
        let index = found.unwrap_or_else(|| {
            self.begun.push(call);
            self.begun.len() - 1
        });
        (index as u32, found.is_none())
    }

    /// What the provider calls the tool call that began last.
    pub fn last_call(&self) -> Option<&String> {
        self.begun.last()
    }

    /// Adds a tool call that comes whole.
    pub fn whole_call(&mut self, id: Option<String>, name: Option<String>, args: Option<&Json>) -> String {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(new_call_id);
        let (index, _) = self.call_index(id.clone());
        let args = args.filter(|args| !args.is_null()).map_or_else(|| "{}".to_owned(), Json::to_string);
        let name = name.map(Into::into);
        self.delta.tool_calls.push(ToolCallDelta { index, id: Some(id.as_str().into()), name, args });
        id
    }
}

/// The id of a tool call to which the provider gave none.
pub(crate) fn new_call_id() -> String {
    format!("call_{}", uuid::Uuid::new_v4().simple())
}

/// Parses a frame.
pub(crate) fn parse<'de, T: serde::Deserialize<'de>>(frame: &'de [u8]) -> Result<T, Fault> {
    serde_json::from_slice(frame).map_err(|error| {
        // serde names the value it found, which may be a user's.
        let why = if error.is_data() { "it has another form".to_owned() } else { error.to_string() };
        Fault::lasting(format!("what it sent cannot be read: {why}; does `base_url` name the right server?"))
    })
}
