//! What a reader receives: channels, and which part of the tree of graphs.

use http::StatusCode;
use runloom_core::events::Channel;
use runloom_engine::Value;

use super::event::Numbered;
use crate::face::Fail;

/// A subscription. It selects events and never changes their numbers.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    channels: Vec<Channel>,
    /// Names of custom events, of channels `custom:<name>`.
    custom: Vec<String>,
    /// Prefixes; none for the whole tree.
    namespaces: Option<Vec<Vec<String>>>,
    /// How many levels below a prefix.
    depth: Option<usize>,
}

impl Subscription {
    /// Reads `channels`, `namespaces` and `depth`. As LangGraph's server does, it passes over namespaces and a depth that it
    /// cannot use.
    pub fn read(params: &Value) -> Result<Self, Fail> {
        let bad = |detail: String| Fail::new(StatusCode::BAD_REQUEST, detail);
        let named = params.get("channels").and_then(Value::as_list).filter(|l| !l.is_empty());
        let Some(named) = named else { return Err(bad("channels is required and must be a non-empty array".into())) };
        let (mut channels, mut custom, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for name in named.iter() {
            let text = name.as_str().unwrap_or_default();
            match Channel::ALL.into_iter().find(|c| c.name() == text) {
                Some(channel) => channels.push(channel),
                None => match text.strip_prefix("custom:").filter(|name| !name.is_empty()) {
                    Some(name) => custom.push(name.to_owned()),
                    None => unknown.push(name.as_str().map_or_else(|| name.kind().to_owned(), str::to_owned)),
                },
            }
        }
        if !unknown.is_empty() {
            return Err(bad(format!(
                "channels contains unsupported entries: {}. Allowed: values, updates, messages, tools, custom, lifecycle, \
                 input, checkpoints, tasks, or any `custom:<name>`.",
                unknown.join(", ")
            )));
        }
        let path = |one: &Value| -> Option<Vec<String>> {
            one.as_list()?.iter().map(|segment| segment.as_str().map(str::to_owned)).collect()
        };
        let namespaces = params.get("namespaces").and_then(Value::as_list);
        let namespaces =
            namespaces.map(|all| all.iter().filter_map(path).collect::<Vec<_>>()).filter(|n| !n.is_empty());
        let depth = params.get("depth").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        Ok(Self { channels, custom, namespaces, depth })
    }

    /// Whether a reader receives an event.
    pub fn wants(&self, event: &Numbered) -> bool {
        self.has_channel(event) && self.reaches(event)
    }

    fn has_channel(&self, event: &Numbered) -> bool {
        if self.channels.contains(&event.channel()) {
            return true;
        }
        if self.custom.is_empty() {
            return false;
        }
        // A custom event is called what its field `name` says, or by the one field that it has.
        let Some(Value::Object(data)) = event.emitted() else { return false };
        match data.get_str("name") {
            Some(name) => self.custom.iter().any(|wanted| wanted == name),
            None => data.len() == 1 && data.keys().any(|key| self.custom.iter().any(|wanted| **wanted == **key)),
        }
    }

    fn reaches(&self, event: &Numbered) -> bool {
        let Some(prefixes) = &self.namespaces else { return true };
        let at: Vec<&str> = event.namespace().collect();
        prefixes.iter().any(|prefix| {
            at.len() >= prefix.len()
                && prefix.iter().zip(at.iter()).all(|(p, s)| p == s || s.split(':').next() == Some(p.as_str()))
                && self.depth.is_none_or(|depth| at.len() - prefix.len() <= depth)
        })
    }
}
