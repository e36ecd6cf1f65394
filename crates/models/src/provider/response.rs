//! An answer as it is gathered from its frames, for each provider's wire.

use runloom_engine::{
    Object, Value,
    model::{ToolCallDelta, Usage},
    value,
};
use serde_json::{Map, Value as Json};

use super::{
    ProviderKind,
    fault::Fault,
    request::{SIGNATURES, THINKING},
};

/// What the frames of an answer said so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Pieces of calls that nobody has taken yet.
    pub calls: Vec<ToolCallDelta>,
    /// Images and files, likewise.
    pub blocks: Vec<Value>,
    /// Whether the provider said that this is all.
    pub is_whole: bool,
    /// An error that the library would not notice.
    pub fault: Option<Fault>,
    pub usage: Option<Usage>,
    model: Option<String>,
    id: Option<String>,
    finish: Option<String>,
    fingerprint: Option<String>,
    refusal: String,
    /// The calls begun: the provider's number or id of each.
    begun: Vec<String>,
    /// Anthropic's thinking, block by block.
    thinking: Vec<Map<String, Json>>,
    /// Gemini's signatures, by the call's id.
    signatures: Object,
}

impl Answer {
    /// Reads a frame.
    pub fn read(&mut self, kind: ProviderKind, data: &str) {
        match kind {
            ProviderKind::OpenAi => self.openai(data),
            ProviderKind::Anthropic => self.anthropic(data),
            ProviderKind::Gemini => self.gemini(data),
            ProviderKind::Ollama => data.lines().for_each(|line| self.ollama(line)),
        }
    }

    /// What the provider says about the whole of it, in LangChain's names; and what is left to be told.
    pub fn finish(&mut self, kind: ProviderKind) -> Object {
        if !self.refusal.is_empty() {
            let refusal = std::mem::take(&mut self.refusal);
            self.blocks.push(value!({"type": "refusal", "refusal": refusal}));
        }
        let mut metadata = Object::default();
        metadata.insert("model_provider", kind.name());
        let mut set = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                metadata.insert(name, text);
            }
        };
        set("model_name", self.model.take());
        if let Some(own) = match kind {
            ProviderKind::Anthropic => Some("stop_reason"),
            ProviderKind::Ollama => Some("done_reason"),
            _ => None,
        } {
            set(own, self.finish.clone());
        }
        set("finish_reason", self.finish.take());
        set("id", self.id.take());
        set("system_fingerprint", self.fingerprint.take());
        if !self.thinking.is_empty() {
            let blocks = std::mem::take(&mut self.thinking);
            metadata.insert(THINKING, Value::from(Json::from_iter(blocks.into_iter().map(Json::Object))));
        }
        if !self.signatures.is_empty() {
            metadata.insert(SIGNATURES, Value::Object(std::mem::take(&mut self.signatures)));
        }
        metadata
    }

    /// The place of a call, by what the provider calls it.
    fn place(&mut self, call: String) -> u32 {
        let at = self.begun.iter().position(|begun| *begun == call).unwrap_or_else(|| {
            self.begun.push(call);
            self.begun.len() - 1
        });
        at as u32
    }

    fn openai(&mut self, data: &str) {
        if data == "[DONE]" {
            self.is_whole = true;
            return;
        }
        // Most frames are a word of text, which the library passes on.
        let tells = ["tool_calls", "finish_reason", "usage", "images", "refusal", "audio"];
        if self.model.is_some() && !tells.iter().any(|key| has(data, key)) {
            return;
        }
        let Ok(mut frame) = serde_json::from_str::<Json>(data) else { return };
        let text = |at: &str| frame.pointer(at).and_then(Json::as_str).map(str::to_owned);
        self.model = self.model.take().or_else(|| text("/model").filter(|name| !name.is_empty()));
        self.id = self.id.take().or_else(|| text("/id"));
        self.fingerprint = self.fingerprint.take().or_else(|| text("/system_fingerprint"));
        if let Some(reason) = text("/choices/0/finish_reason") {
            self.finish = Some(reason);
            // Some servers leave the end mark out.
            self.is_whole = true;
        }
        self.refusal.push_str(frame.pointer("/choices/0/delta/refusal").and_then(Json::as_str).unwrap_or_default());
        let usage = frame.get("usage").filter(|usage| usage.is_object());
        if let Some(usage) = usage {
            let of = |at: &str| usage.pointer(at).and_then(Json::as_u64).unwrap_or_default();
            self.usage = Some(Usage {
                input_tokens: of("/prompt_tokens"),
                output_tokens: of("/completion_tokens"),
                cached_tokens: of("/prompt_tokens_details/cached_tokens"),
                reasoning_tokens: of("/completion_tokens_details/reasoning_tokens"),
            });
        }
        for image in list(frame.pointer_mut("/choices/0/delta/images")) {
            self.blocks.push(Value::from(image));
        }
        for mut call in list(frame.pointer_mut("/choices/0/delta/tool_calls")) {
            let id = string(call.get_mut("id")).filter(|id| !id.is_empty());
            let number = call.get("index").and_then(Json::as_u64);
            // Servers that send each call whole leave its number out.
            let named = match (number, &id) {
                (Some(n), _) => n.to_string(),
                (None, Some(id)) => id.clone(),
                (None, None) => self.begun.last().cloned().unwrap_or_default(),
            };
            let is_new = !self.begun.contains(&named);
            let function = call.get_mut("function");
            let (name, args) =
                function.map(|f| (string(f.get_mut("name")), string(f.get_mut("arguments")))).unwrap_or_default();
            let id = id.or_else(|| is_new.then(call_id));
            let name = name.filter(|name| !name.is_empty()).map(Into::into);
            let index = self.place(named);
            self.calls.push(ToolCallDelta { index, id: id.map(Into::into), name, args: args.unwrap_or_default() });
        }
    }

    fn anthropic(&mut self, data: &str) {
        // A word of text.
        if data.contains(r#""text_delta""#) {
            return;
        }
        let Ok(mut frame) = serde_json::from_str::<Json>(data) else { return };
        let text = |at: &str| frame.pointer(at).and_then(Json::as_str).map(str::to_owned);
        let block = frame.get("index").and_then(Json::as_u64).unwrap_or_default().to_string();
        match frame.get("type").and_then(Json::as_str) {
            Some("message_start") => {
                (self.model, self.id) = (text("/message/model"), text("/message/id"));
                self.anthropic_usage(frame.pointer("/message/usage"));
            }
            Some("message_delta") => {
                self.finish = text("/delta/stop_reason").or(self.finish.take());
                self.anthropic_usage(frame.get("usage"));
            }
            Some("message_stop") => self.is_whole = true,
            Some("content_block_start") => match frame.pointer("/content_block/type").and_then(Json::as_str) {
                Some("tool_use") => {
                    let input =
                        frame.pointer("/content_block/input").and_then(Json::as_object).filter(|o| !o.is_empty());
                    let args = input.map(|input| Json::Object(input.clone()).to_string()).unwrap_or_default();
                    let (id, name) = (text("/content_block/id"), text("/content_block/name"));
                    let index = self.place(block);
                    self.calls.push(ToolCallDelta { index, id: id.map(Into::into), name: name.map(Into::into), args });
                }
                Some("thinking" | "redacted_thinking") => {
                    if let Some(Json::Object(block)) = frame.get_mut("content_block").map(Json::take) {
                        self.thinking.push(block);
                    }
                }
                _ => {}
            },
            Some("content_block_delta") => match frame.pointer("/delta/type").and_then(Json::as_str) {
                Some("input_json_delta") => {
                    let args = text("/delta/partial_json").filter(|args| !args.is_empty());
                    if let Some(args) = args {
                        let index = self.place(block);
                        self.calls.push(ToolCallDelta { index, args, ..ToolCallDelta::default() });
                    }
                }
                Some("thinking_delta") => self.think("thinking", text("/delta/thinking")),
                Some("signature_delta") => self.think("signature", text("/delta/signature")),
                _ => {}
            },
            _ => {}
        }
    }

    fn think(&mut self, key: &str, more: Option<String>) {
        let Some(block) = self.thinking.last_mut() else { return };
        let Some(more) = more else { return };
        match block.get_mut(key) {
            Some(Json::String(text)) => text.push_str(&more),
            _ => drop(block.insert(key.to_owned(), more.into())),
        }
    }

    /// Anthropic counts what a cache gave apart, and tells some numbers twice: the later ones count.
    fn anthropic_usage(&mut self, usage: Option<&Json>) {
        let Some(usage) = usage.filter(|usage| usage.is_object()) else { return };
        let of = |name: &str| usage.get(name).and_then(Json::as_u64);
        let total = self.usage.get_or_insert_default();
        if let Some(input) = of("input_tokens") {
            let (read, made) =
                (of("cache_read_input_tokens").unwrap_or(0), of("cache_creation_input_tokens").unwrap_or(0));
            total.input_tokens = input + read + made;
            total.cached_tokens = read;
        }
        total.output_tokens = of("output_tokens").unwrap_or(total.output_tokens);
    }

    fn gemini(&mut self, data: &str) {
        let Ok(mut frame) = serde_json::from_str::<Json>(data) else { return };
        let text = |at: &str| frame.pointer(at).and_then(Json::as_str).map(str::to_owned);
        self.model = text("/modelVersion").or(self.model.take());
        self.id = text("/responseId").or(self.id.take());
        if let Some(reason) = text("/candidates/0/finishReason").or_else(|| text("/promptFeedback/blockReason")) {
            self.finish = Some(reason);
            self.is_whole = true;
        }
        if let Some(usage) = frame.get("usageMetadata") {
            let of = |name: &str| usage.get(name).and_then(Json::as_u64).unwrap_or_default();
            self.usage = Some(Usage {
                input_tokens: of("promptTokenCount") + of("toolUsePromptTokenCount"),
                output_tokens: of("candidatesTokenCount") + of("thoughtsTokenCount"),
                cached_tokens: of("cachedContentTokenCount"),
                reasoning_tokens: of("thoughtsTokenCount"),
            });
        }
        for mut part in list(frame.pointer_mut("/candidates/0/content/parts")) {
            let signature = string(part.get_mut("thoughtSignature"));
            if let Some(mut call) = part.get_mut("functionCall").map(Json::take) {
                // Gemini names no call; each needs a name of its own for its result to find it.
                let id = string(call.get_mut("id")).filter(|id| !id.is_empty()).unwrap_or_else(call_id);
                let name = string(call.get_mut("name")).map(Into::into);
                let args = call.get("args").map_or_else(|| "{}".to_owned(), Json::to_string);
                if let Some(signature) = signature {
                    self.signatures.insert(id.as_str(), signature);
                }
                let index = self.place(id.clone());
                self.calls.push(ToolCallDelta { index, id: Some(id.into()), name, args });
            } else if let Some(mut data) = part.get_mut("inlineData").map(Json::take) {
                let mime = string(data.get_mut("mimeType")).unwrap_or_default();
                let base64 = string(data.get_mut("data")).unwrap_or_default();
                let known = ["image", "audio", "video"].into_iter().find(|kind| mime.starts_with(kind));
                let kind = known.unwrap_or("file");
                self.blocks.push(value!({"type": kind, "base64": base64, "mime_type": mime}));
            }
        }
    }

    fn ollama(&mut self, line: &str) {
        let Ok(mut frame) = serde_json::from_str::<Json>(line) else { return };
        if frame.get("error").is_some_and(|error| !error.is_null()) {
            self.fault = Some(Fault::of_event(&frame));
            return;
        }
        if self.model.is_none() {
            self.model = string(frame.get_mut("model"));
        }
        for mut call in list(frame.pointer_mut("/message/tool_calls")) {
            let id = string(call.get_mut("id")).filter(|id| !id.is_empty()).unwrap_or_else(call_id);
            let name = string(call.pointer_mut("/function/name")).map(Into::into);
            let args = call.pointer("/function/arguments").map_or_else(|| "{}".to_owned(), Json::to_string);
            let index = self.place(id.clone());
            self.calls.push(ToolCallDelta { index, id: Some(id.into()), name, args });
        }
        if frame.get("done").and_then(Json::as_bool) == Some(true) {
            self.is_whole = true;
            self.finish = string(frame.get_mut("done_reason"));
            let of = |name: &str| frame.get(name).and_then(Json::as_u64).unwrap_or_default();
            self.usage = Some(Usage {
                input_tokens: of("prompt_eval_count"),
                output_tokens: of("eval_count"),
                cached_tokens: of("prompt_eval_cached_count"),
                reasoning_tokens: 0,
            });
        }
    }
}

/// Whether a JSON text has a key with a value, as far as can be told without reading it: true too often, never too seldom.
fn has(data: &str, key: &str) -> bool {
    data.match_indices(key).any(|(at, _)| {
        let after = data[at + key.len()..].trim_start_matches(['"', ' ', ':', '\t', '\n']);
        !after.starts_with("null")
    })
}

fn list(value: Option<&mut Json>) -> Vec<Json> {
    match value.map(Json::take) {
        Some(Json::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn string(value: Option<&mut Json>) -> Option<String> {
    match value.map(Json::take) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
}

/// The id of a call that the provider gave none.
fn call_id() -> String {
    format!("call_{}", uuid::Uuid::new_v4().simple())
}
