//! Compares values exactly, under one renaming of ids. What may differ is named here, and nothing else.

use std::{collections::HashMap, sync::LazyLock};

use regex::Regex;
use serde_json::{Map, Value as Json};

static IDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:lc_run--)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b").unwrap()
});

/// Ids of the recording and those that stand for them here.
#[derive(Default)]
pub struct Exact {
    there: HashMap<String, String>,
    back: HashMap<String, String>,
}

impl Exact {
    fn bind(&mut self, want: &str, got: &str) -> bool {
        let (want, got) = (want.trim_start_matches("lc_run--"), got.trim_start_matches("lc_run--"));
        let there = self.there.entry(want.to_owned()).or_insert_with(|| got.to_owned());
        let back = self.back.entry(got.to_owned()).or_insert_with(|| want.to_owned());
        there == got && back == want
    }

    fn text(&mut self, want: &str, got: &str) -> bool {
        let (wanted, found): (Vec<_>, Vec<_>) = (IDS.find_iter(want).collect(), IDS.find_iter(got).collect());
        wanted.len() == found.len()
            && IDS.replace_all(want, "*") == IDS.replace_all(got, "*")
            && wanted.iter().zip(&found).all(|(w, g)| self.bind(w.as_str(), g.as_str()))
    }

    /// The first difference, as `path: got X, not Y`.
    pub fn compare(&mut self, want: &Json, got: &Json, path: &str) -> Result<(), String> {
        let differ = || Err(format!("{path}: {got}, not {want}"));
        match (want, got) {
            (Json::String(w), Json::String(g)) if self.text(w, g) => Ok(()),
            (Json::String(_), Json::String(_)) => differ(),
            (Json::Array(w), Json::Array(g)) if w.len() == g.len() => {
                w.iter().zip(g).enumerate().try_for_each(|(i, (w, g))| self.compare(w, g, &format!("{path}[{i}]")))
            }
            (Json::Array(w), Json::Array(g)) => Err(format!("{path}: {} items, not {}", g.len(), w.len())),
            (Json::Object(w), Json::Object(g)) => {
                for (key, want) in w {
                    let renamed = IDS.replace_all(key, |c: &regex::Captures<'_>| {
                        self.there.get(&c[0]).cloned().unwrap_or_else(|| c[0].to_owned())
                    });
                    match g.get(&*renamed) {
                        Some(got) => self.compare(want, got, &format!("{path}.{key}"))?,
                        None => return Err(format!("{path}.{key} is missing")),
                    }
                }
                match g.keys().find(|key| !w.contains_key(*key) && !IDS.is_match(key)) {
                    Some(more) => Err(format!("{path}.{more} is there too")),
                    None => Ok(()),
                }
            }
            _ if want == got => Ok(()),
            _ => differ(),
        }
    }
}

/// Whether a list is the content of a message that a model streamed: LangGraph stores it in blocks, Runloom as text.
fn is_content(items: &[Json]) -> bool {
    let is_block = |b: &Json| match b["type"].as_str() {
        Some("text") => b.get("index").is_some() && b.get("event").is_none(),
        Some("tool_call" | "invalid_tool_call") => b.get("id").is_some() && b.get("index").is_none(),
        _ => false,
    };
    !items.is_empty() && items.iter().all(is_block)
}

/// Adapts an event of the recording and the one that stands for it to each other, in what differs on purpose everywhere:
///
/// - the content of AI messages in states is blocks there, and what the graph stored here;
/// - a tool's message has its id from the start here;
/// - the tokens of scripted models are lost there: `usage` may be more here, not other;
/// - `value` stands beside `payload` in `input.requested` here;
/// - `output_version` is a note of LangGraph's own;
/// - the messages of `create_agent` have its name there;
/// - texts of JSON have their keys in another order.
pub fn adapt(want: &mut Json, got: &mut Json) {
    match (&mut *want, &mut *got) {
        (Json::Array(items), Json::String(_)) if is_content(items) => {
            let text: String = items.iter().filter_map(|b| b["text"].as_str()).collect();
            *want = text.into();
        }
        (Json::Array(items), Json::Array(others)) if is_content(items) && others.iter().all(|b| b.is_string()) => {}
        (Json::Array(w), Json::Array(g)) => {
            // Blocks of content have their places there.
            for (w, g) in w.iter_mut().zip(g.iter()) {
                if ["text", "reasoning"].iter().any(|kind| w["type"] == *kind) && g.get("index").is_none() {
                    w.as_object_mut().unwrap().remove("index");
                }
            }
            w.iter_mut().zip(g).for_each(|(w, g)| adapt(w, g));
        }
        (Json::Object(w), Json::Object(g)) => {
            adapt_objects(w, g);
            // Objects by id: their order is the same.
            let is_by_id =
                |fields: &Map<String, Json>| !fields.is_empty() && fields.keys().all(|key| IDS.is_match(key));
            if is_by_id(w) && is_by_id(g) {
                w.values_mut().zip(g.values_mut()).for_each(|(w, g)| adapt(w, g));
            }
            for (key, want) in w.iter_mut() {
                if let Some(got) = g.get_mut(key) {
                    adapt(want, got);
                }
            }
        }
        (Json::String(w), Json::String(g)) if w.starts_with('{') && g.starts_with('{') => {
            let sorted = |text: &str| serde_json::from_str::<std::collections::BTreeMap<String, Json>>(text);
            if let (Ok(a), Ok(b)) = (sorted(w), sorted(g))
                && a == b
            {
                g.clone_from(w);
            }
        }
        _ => {}
    }
}

fn adapt_objects(want: &mut Map<String, Json>, got: &mut Map<String, Json>) {
    for key in ["usage", "usage_metadata"] {
        if !want.contains_key(key) {
            got.remove(key);
        }
    }
    if let Some(Json::Object(of)) = want.get_mut("response_metadata") {
        of.remove("output_version");
        if of.is_empty() && !got.contains_key("response_metadata") {
            want.remove("response_metadata");
        }
    }
    // `create_agent` gives the messages of its model its own name.
    if want.get("type").is_some_and(|t| t == "ai") && !got.contains_key("name") {
        want.remove("name");
    }
    // The recording lost the sign between the segments of a namespace.
    if let Some(Json::String(id)) = want.get_mut("event_id") {
        *id = id.replace('\u{fffd}', "|");
    }
    let is_tool = want.get("type").is_some_and(|t| t == "tool") || want.get("role").is_some_and(|r| r == "tool");
    if is_tool {
        let is_made_up =
            want.get("id").is_none_or(|id| id.is_null() || id.as_str().is_some_and(|id| id.starts_with("tool-")));
        if is_made_up && got.get("id").is_some_and(Json::is_string) {
            want.remove("id");
            got.remove("id");
        }
    }
    if want.contains_key("interrupt_id") && want.contains_key("payload") && got.get("value") == got.get("payload") {
        got.remove("value");
    }
}
