//! Compares an answer with the recorded one under one consistent renaming of ids, as `tests/conformance/drive.py` does.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// Facts about the host that answered, not about the run.
const HOST_KEYS: &[&str] = &[
    "langgraph_version",
    "langgraph_api_version",
    "langgraph_plan",
    "langgraph_host",
    "langgraph_api_url",
    "langgraph_auth_user",
    "langgraph_auth_user_id",
    "langgraph_auth_permissions",
    "langgraph_request_id",
    "user_id",
    "created_by",
    "run_attempt",
    "ls_integration",
    "lc_versions",
    "versions",
    "revision_id",
    "ls_provider",
    "ls_model_name",
    "ls_model_type",
    "ls_model",
    "lc_agent_name",
    "x-request-id",
    "kwargs",
    "max_concurrency",
    "thread_ttl",
    "state_updated_at",
    "request_start_time_ms",
    "user-agent",
    "stacktrace",
    "traceparent",
];
/// An object under one of these may hold more than what is expected of it.
const OPEN_OBJECTS: &[&str] =
    &["metadata", "config", "configurable", "additional_kwargs", "response_metadata", "context"];
const HELP: &str = "For troubleshooting, visit";

pub struct Matcher {
    there: HashMap<String, String>,
    back: HashMap<String, String>,
    uuid: Regex,
    hex: Regex,
    repr: Regex,
    unknown_tool: Regex,
    stamp: Regex,
    quoted: Regex,
}

fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

impl Default for Matcher {
    fn default() -> Self {
        let re = |text: &str| Regex::new(text).unwrap();
        Self {
            there: HashMap::new(),
            back: HashMap::new(),
            uuid: re("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
            hex: re(r"\b[0-9a-f]{32}\b"),
            repr: re(r"\b[A-Z]\w+\('([^']*)'\)"),
            unknown_tool: re(r"^Error: (\w+) is not a valid tool"),
            stamp: re(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d"),
            quoted: re(r"'(\w+)'|\b(\d+)\b"),
        }
    }
}

impl Matcher {
    fn bind(&mut self, want: &str, got: &str, path: &str) -> Result<(), String> {
        let there = self.there.entry(want.to_owned()).or_insert_with(|| got.to_owned());
        let back = self.back.entry(got.to_owned()).or_insert_with(|| want.to_owned());
        if there != got || back != want {
            return Err(format!("{path}: {got} stands where another id should ({want} was {there}, {got} was {back})"));
        }
        Ok(())
    }

    fn text(&mut self, want: &str, got: &str, path: &str) -> Result<(), String> {
        if self.stamp.is_match(want) && self.stamp.is_match(got) {
            return Ok(());
        }
        let (want, got) = (want.replace("lc_run--", ""), got.replace("lc_run--", ""));
        let mut told: Vec<String> = self.repr.captures_iter(&want).map(|c| c[1].to_owned()).collect();
        if told.is_empty() {
            told = self.unknown_tool.captures_iter(&want).map(|c| c[1].to_owned()).collect();
        }
        if let Some((head, _)) = want.split_once(HELP) {
            let found = self.quoted.captures_iter(head);
            told = found.filter_map(|c| Some(c.get(1).or(c.get(2))?.as_str().to_owned())).collect();
        }
        if !told.is_empty() || want.contains(HELP) {
            let lacking: Vec<_> = told.iter().filter(|t| !got.contains(*t)).collect();
            if !lacking.is_empty() || got.is_empty() {
                return Err(format!("{path}: {got:?} does not tell {lacking:?}"));
            }
            return Ok(());
        }
        for pattern in [self.uuid.clone(), self.hex.clone()] {
            let ids: Vec<String> = pattern.find_iter(&want).map(|m| m.as_str().to_owned()).collect();
            if !ids.is_empty() {
                let found: Vec<String> = pattern.find_iter(&got).map(|m| m.as_str().to_owned()).collect();
                if pattern.replace_all(&want, "*") != pattern.replace_all(&got, "*") || ids.len() != found.len() {
                    return Err(format!("{path}: {got:?} is not of the form {want:?}"));
                }
                for (w, g) in ids.iter().zip(&found) {
                    self.bind(w, g, path)?;
                }
                return Ok(());
            }
        }
        if want == got { Ok(()) } else { Err(format!("{path}: {got:?}, not {want:?}")) }
    }

    /// The actual key that stands for an expected one.
    fn key(&mut self, want: &str, keys: &[&String]) -> Result<Option<String>, String> {
        let ids: Vec<String> = self.uuid.find_iter(want).map(|m| m.as_str().to_owned()).collect();
        if ids.is_empty() {
            return Ok(keys.iter().find(|k| **k == want).map(|k| (*k).clone()));
        }
        if ids.iter().all(|i| self.there.contains_key(i)) {
            let named = self.uuid.replace_all(want, |c: &regex::Captures<'_>| self.there[&c[0]].clone()).into_owned();
            return Ok(keys.iter().any(|k| **k == named).then_some(named));
        }
        let form = |text: &str| self.uuid.replace_all(text, "*").into_owned();
        let alike: Vec<String> = keys.iter().filter(|k| form(k) == form(want)).map(|k| (*k).clone()).collect();
        match &alike[..] {
            [one] => {
                let one = one.clone();
                self.text(want, &one, "key")?;
                Ok(Some(one))
            }
            _ => Ok(None),
        }
    }

    pub fn matches(&mut self, want: &Value, got: &Value, path: &str, inside: &str) -> Result<(), String> {
        match (want, got) {
            (Value::String(w), Value::String(g)) => self.text(w, g, path),
            (Value::Object(w), Value::Object(g)) => self.object(w, g, path, inside),
            (Value::Array(w), Value::Array(g)) => {
                if w.len() != g.len() {
                    return Err(format!("{path}: {} items, not {}", g.len(), w.len()));
                }
                for (i, (w, g)) in w.iter().zip(g).enumerate() {
                    self.matches(w, g, &format!("{path}[{i}]"), inside)?;
                }
                Ok(())
            }
            _ if want == got => Ok(()),
            _ => Err(format!("{path}: {got}, not {want}")),
        }
    }

    fn object(
        &mut self,
        w: &Map<String, Value>,
        g: &Map<String, Value>,
        path: &str,
        inside: &str,
    ) -> Result<(), String> {
        let private = |key: &str| key.starts_with("__") && OPEN_OBJECTS.contains(&inside);
        let mut met: Vec<String> = Vec::new();
        for (key, want) in w {
            if HOST_KEYS.contains(&key.as_str()) || private(key) {
                continue;
            }
            let keys: Vec<&String> = g.keys().filter(|k| !met.contains(k)).collect();
            let Some(there) = self.key(key, &keys)? else {
                if is_empty(want) {
                    continue;
                }
                return Err(format!("{path}.{key} is missing"));
            };
            self.matches(want, &g[&there], &format!("{path}.{there}"), key)?;
            met.push(there);
        }
        let more: Vec<&String> = g
            .iter()
            .filter(|(k, v)| !met.contains(k) && !HOST_KEYS.contains(&k.as_str()) && !private(k) && !is_empty(v))
            .map(|(k, _)| k)
            .collect();
        if !more.is_empty() && !OPEN_OBJECTS.contains(&inside) {
            return Err(format!("{path} has {more:?} too"));
        }
        Ok(())
    }

    /// A stream without the order that concurrency leaves open.
    pub fn settled(&self, parts: &Value) -> Value {
        let Value::Array(parts) = parts else { return parts.clone() };
        let blank = |p: &Value| {
            let text = sorted(p).to_string();
            self.hex.replace_all(&self.uuid.replace_all(&text, "*"), "*").into_owned()
        };
        let mut parts = parts.clone();
        parts.sort_by_key(blank);
        Value::Array(parts)
    }
}

fn sorted(v: &Value) -> Value {
    match v {
        Value::Object(o) => {
            let mut fields: Vec<_> = o.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(a) => a.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
