//! Reading `models`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runloom_engine::{
    Value,
    model::{ChatModel, Usage},
};
use runloom_models::{ChunkBy, ModelAccess, Response, Scripted, ToolCall};

use super::Reader;
use crate::{
    suggest::or_known,
    tree::{Data, Tree},
};

impl Reader<'_> {
    /// The models, by name.
    pub fn models(&mut self, tree: &Tree, access: &ModelAccess) -> BTreeMap<Arc<str>, Arc<dyn ChatModel>> {
        let mut models: BTreeMap<Arc<str>, Arc<dyn ChatModel>> = BTreeMap::new();
        for (key, model) in self.entries(tree) {
            // One that cannot be read is known all the same, so that what refers to it is no fault too.
            let read = self.within(format!("model `{}`", key.name), |r| r.model(model, access));
            let stand_in = || Some(Arc::new(Scripted::new([Response::default()]).ok()?) as Arc<dyn ChatModel>);
            if let Some(read) = read.or_else(stand_in) {
                models.insert(key.name.clone(), read);
            }
        }
        models
    }

    fn model(&mut self, tree: &Tree, access: &ModelAccess) -> Option<Arc<dyn ChatModel>> {
        if tree.get("provider").is_some() {
            return Some(Arc::new(self.provider(tree, access)?));
        }
        let fields = self.fields(tree, &["scripted", "provider"]);
        let Some(scripted) = fields.get("scripted") else {
            self.fault(tree.at, "a model needs `scripted`, or a `provider`");
            return None;
        };
        Some(Arc::new(self.scripted(scripted)?))
    }

    fn scripted(&mut self, scripted: &Tree) -> Option<Scripted> {
        let fields = self.fields(scripted, &["responses", "chunk", "delay_ms"]);
        let responses = match fields.get("responses").map(|r| (r, &r.data)) {
            Some((_, Data::List(items))) if !items.is_empty() => items
                .iter()
                .enumerate()
                .map(|(i, item)| self.within(format!("response {}", i + 1), |r| r.response(item)))
                .collect::<Vec<_>>(),
            _ => {
                self.fault(fields.place("responses"), "a scripted model needs `responses`, a list with at least one");
                return None;
            }
        };
        let mut model = Scripted::new(responses).ok()?;
        if let Some(chunk) = fields.get("chunk")
            && let Some(text) = self.text(chunk)
        {
            match &**text {
                "words" => {}
                "chars" => model = model.chunk(ChunkBy::Chars),
                "whole" => model = model.chunk(ChunkBy::Whole),
                other => {
                    let near = or_known(other, ["words", "chars", "whole"]);
                    self.fault(chunk.at, format!("there is no way to chunk by `{other}`{near}"));
                }
            }
        }
        if let Some(delay) = self.field(&fields, "delay_ms", |r, t| r.number(t, 0.0)) {
            model = model.delay(Duration::from_secs_f64(delay.min(MAX_DELAY_MS) / 1000.0));
        }
        Some(model)
    }

    fn response(&mut self, tree: &Tree) -> Response {
        if let Some(text) = tree.as_text() {
            return Response::text(&**text);
        }
        let fields = self.fields(tree, &["content", "reasoning", "tool_calls", "usage"]);
        let text = |r: &mut Self, name: &str| {
            fields.get(name).and_then(|t| r.text(t)).map(ToString::to_string).unwrap_or_default()
        };
        let content = text(self, "content");
        let reasoning = text(self, "reasoning");
        let tool_calls = match fields.get("tool_calls").map(|t| (t, &t.data)) {
            None => Vec::new(),
            Some((_, Data::List(items))) => items.iter().filter_map(|item| self.tool_call(item)).collect(),
            Some((tree, _)) => {
                self.fault(tree.at, format!("expected a list of tool calls, found {}", tree.kind()));
                Vec::new()
            }
        };
        let usage = fields.get("usage").map(|u| self.usage(u));
        Response { content, reasoning, tool_calls, usage }
    }

    fn tool_call(&mut self, tree: &Tree) -> Option<ToolCall> {
        let fields = self.fields(tree, &["name", "args", "id", "type"]);
        let Some(name) = fields.get("name") else {
            self.fault(tree.at, "a tool call needs a `name`");
            return None;
        };
        let args = fields.get("args").map_or_else(Value::object, Tree::to_value);
        if args.as_object().is_none() {
            self.fault(fields.place("args"), format!("the arguments of a tool call are a map, not {}", args.kind()));
            return None;
        }
        let id = fields.get("id").and_then(|id| self.text(id)).cloned();
        Some(ToolCall { name: self.text(name)?.clone(), args, id })
    }

    fn usage(&mut self, tree: &Tree) -> Usage {
        let known = ["input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"];
        let fields = self.fields(tree, &known);
        let mut tokens = |name: &str| fields.get(name).and_then(|t| self.integer(t, 0));
        let total = tokens("total_tokens");
        let mut tokens = |name: &str| tokens(name).unwrap_or(0);
        let usage = Usage {
            input_tokens: tokens("input_tokens"),
            output_tokens: tokens("output_tokens"),
            cached_tokens: tokens("cached_tokens"),
            reasoning_tokens: tokens("reasoning_tokens"),
        };
        let sum = usage.input_tokens.saturating_add(usage.output_tokens);
        if let Some(total) = total.filter(|total| *total != sum) {
            let what = "is the sum of `input_tokens` and `output_tokens`";
            self.fault(fields.place("total_tokens"), format!("`total_tokens` {what}, here {sum}, and not {total}"));
        }
        usage
    }
}

/// A day, which is longer than anyone waits for a word.
pub(crate) const MAX_DELAY_MS: f64 = 86_400_000.0;
