//! Reading what stands beside a node's action: retries, timeouts, caches, tags, where its commands go.

use std::{sync::Arc, time::Duration};

use runloom_engine::{CachePolicy, NodeSpec, RefreshOn, RetryPolicy, Value};

use super::{Fields, Reader, given::Scope, models::MAX_DELAY_MS};
use crate::{suggest::or_known, tree::Tree};

/// The keys of policies that an error handler can have too.
pub(crate) const HANDLER_POLICIES: [&str; 7] =
    ["retry", "timeout_ms", "idle_timeout_ms", "refresh_on", "tags", "metadata", "destinations"];

/// The keys of policies that only a node can have.
pub(crate) const NODE_POLICIES: [&str; 3] = ["cache", "defer", "on_error"];

impl Reader<'_> {
    /// Gives a node its policies.
    pub fn policies(&mut self, mut spec: NodeSpec, fields: &Fields<'_>, scope: &Scope<'_>) -> NodeSpec {
        if let Some(retry) = fields.get("retry") {
            spec.retry = Some(self.within("retry", |r| r.retry(retry)));
        }
        if let Some(ms) = self.field(fields, "timeout_ms", |r, t| r.integer(t, 1)) {
            spec.timeout = Some(Duration::from_millis(ms));
        }
        if let Some(ms) = self.field(fields, "idle_timeout_ms", |r, t| r.integer(t, 1)) {
            spec.idle_timeout = Some(Duration::from_millis(ms));
        }
        if let Some(refresh) = self.field(fields, "refresh_on", |r, t| r.refresh_on(t)) {
            spec.refresh_on = refresh;
            if spec.idle_timeout.is_none() {
                self.fault(fields.place("refresh_on"), "`refresh_on` needs an `idle_timeout_ms`");
            }
        }
        if let Some(cache) = fields.get("cache") {
            spec.cache = self.within("cache", |r| r.cache(cache));
        }
        if let Some(defer) = self.field(fields, "defer", |r, t| r.bool(t)) {
            spec.defer = defer;
        }
        if let Some(tags) = fields.get("tags") {
            spec.tags = self.within("tags", |r| r.names(tags)).into_iter().map(|(tag, _)| tag).collect();
        }
        if let Some(metadata) = fields.get("metadata") {
            match metadata.to_value() {
                Value::Object(object) => spec.metadata = object,
                _ => self.fault(metadata.at, format!("expected a map, found {}", metadata.kind())),
            }
        }
        if let Some(destinations) = fields.get("destinations") {
            let has_subgraph = !spec.node.subgraphs().is_empty();
            let mut to: Vec<Arc<str>> = Vec::new();
            self.within("destinations", |r| {
                for (name, at) in r.names(destinations) {
                    // A command of a subgraph may be meant for a graph further out.
                    if has_subgraph || is_end(&name) || r.known("node", &name, at, &scope.nodes) {
                        to.push(name);
                    }
                }
            });
            spec.destinations = Some(to);
        }
        spec
    }

    fn refresh_on(&mut self, tree: &Tree) -> Option<RefreshOn> {
        match &**self.text(tree)? {
            "auto" => Some(RefreshOn::Auto),
            "heartbeat" => Some(RefreshOn::Heartbeat),
            other => {
                let near = or_known(other, ["auto", "heartbeat"]);
                self.fault(tree.at, format!("there is no `refresh_on: {other}`{near}"));
                None
            }
        }
    }

    fn retry(&mut self, tree: &Tree) -> RetryPolicy {
        let fields = self.fields(tree, &["max_attempts", "initial_ms", "backoff", "max_ms", "jitter"]);
        let mut policy = RetryPolicy::default();
        let ms = |n: f64| Duration::from_secs_f64(n.min(MAX_DELAY_MS) / 1000.0);
        if let Some(n) = self.field(&fields, "max_attempts", |r, t| r.integer(t, 1)) {
            policy.max_attempts = u32::try_from(n).unwrap_or(u32::MAX);
        }
        if let Some(n) = self.field(&fields, "initial_ms", |r, t| r.number(t, 0.0)) {
            policy.initial_interval = ms(n);
        }
        if let Some(n) = self.field(&fields, "backoff", |r, t| r.number(t, 0.0)) {
            policy.backoff = n;
        }
        if let Some(n) = self.field(&fields, "max_ms", |r, t| r.number(t, 0.0)) {
            policy.max_interval = ms(n);
        }
        if let Some(jitter) = self.field(&fields, "jitter", |r, t| r.bool(t)) {
            policy.jitter = jitter;
        }
        policy
    }

    fn cache(&mut self, tree: &Tree) -> Option<CachePolicy> {
        match tree.to_value() {
            Value::Bool(false) => return None,
            Value::Bool(true) => return Some(CachePolicy::default()),
            _ => {}
        }
        let fields = self.fields(tree, &["ttl_s"]);
        let ttl = self.field(&fields, "ttl_s", |r, t| r.number(t, 0.0));
        Some(CachePolicy { ttl: ttl.map(|s| Duration::from_secs_f64(s.min(MAX_TTL_S))) })
    }
}

/// The graph's end, as documents name it.
pub(crate) fn is_end(name: &str) -> bool {
    matches!(name, "END" | runloom_engine::END)
}

/// The graph's start, as documents name it.
pub(crate) fn is_start(name: &str) -> bool {
    matches!(name, "START" | runloom_engine::START)
}

/// A hundred years: longer than any cache, and not too long for a clock.
const MAX_TTL_S: f64 = 3_153_600_000.0;
