//! Which events a run tells. Asked before an event is built, so that one nobody wants costs a comparison.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Chunk, EventKind};

/// Names to include and to exclude. Each may hold `*`, `?` and `[…]`. Nothing included means all are.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

/// A pattern that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{pattern}` is not a pattern: {message}")]
pub struct FilterError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub message: String,
}

fn set(patterns: &[String]) -> Result<Option<GlobSet>, FilterError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let fail = |p: &str, e: globset::Error| FilterError { pattern: p.into(), message: e.kind().to_string() };
    let mut builder = GlobSetBuilder::new();
    for p in patterns {
        builder.add(Glob::new(p).map_err(|e| fail(p, e))?);
    }
    builder.build().map(Some).map_err(|e| fail(&patterns.join(", "), e))
}

impl Patterns {
    /// Compiles the patterns.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        Ok(Self { include: set(include)?, exclude: set(exclude)? })
    }

    fn is_open(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    fn admits(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|s| s.is_match(name)) && !self.excludes(name)
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude.as_ref().is_some_and(|s| s.is_match(name))
    }

    fn admits_any<'a>(&self, names: impl Iterator<Item = &'a Arc<str>> + Clone) -> bool {
        self.include.as_ref().is_none_or(|s| names.clone().any(|n| s.is_match(&**n)))
            && !names.clone().any(|n| self.excludes(n))
    }
}

/// Which events a run tells.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Kinds to include; empty means all.
    pub include_kinds: Vec<EventKind>,
    /// Kinds to leave out.
    pub exclude_kinds: Vec<EventKind>,
    /// By the event's own name.
    pub names: Patterns,
    /// By the node in which it happens.
    pub nodes: Patterns,
    /// By tag: one that is included suffices, one that is excluded too.
    pub tags: Patterns,
    /// By namespace.
    pub namespaces: Patterns,
    /// Leaves out chunks of a model that carry nothing.
    pub skip_empty_chunks: bool,
}

impl EventFilter {
    /// True where every event passes.
    pub fn is_open(&self) -> bool {
        self.include_kinds.is_empty()
            && self.exclude_kinds.is_empty()
            && [&self.names, &self.nodes, &self.tags, &self.namespaces].iter().all(|p| p.is_open())
    }

    /// Whether tags decide anything.
    pub(crate) fn looks_at_tags(&self) -> bool {
        !self.tags.is_open()
    }

    /// Whether an event of this kind can pass at all.
    pub fn admits_kind(&self, kind: EventKind) -> bool {
        let bits = |kinds: &[EventKind]| kinds.iter().fold(0u16, |bits, k| bits | k.bit());
        (self.include_kinds.is_empty() || bits(&self.include_kinds) & kind.bit() != 0)
            && bits(&self.exclude_kinds) & kind.bit() == 0
    }

    /// Whether an event passes.
    pub fn admits<'a>(
        &self,
        kind: EventKind,
        name: &str,
        node: Option<&str>,
        namespace: &str,
        tags: impl Iterator<Item = &'a Arc<str>> + Clone,
    ) -> bool {
        self.is_open()
            || (self.admits_kind(kind)
                && self.names.admits(name)
                && (self.nodes.is_open() || node.is_some_and(|n| self.nodes.admits(n)))
                && self.namespaces.admits(namespace)
                && self.tags.admits_any(tags))
    }

    /// Whether a message passes: by the name of what made it, node, tags and namespace, whatever the kinds.
    pub fn admits_message<'a>(
        &self,
        name: &str,
        node: Option<&str>,
        namespace: &str,
        tags: impl Iterator<Item = &'a Arc<str>> + Clone,
    ) -> bool {
        self.names.admits(name)
            && (self.nodes.is_open() || node.is_some_and(|n| self.nodes.admits(n)))
            && self.namespaces.admits(namespace)
            && self.tags.admits_any(tags)
    }

    /// Whether a chunk is to be left out for being empty.
    pub fn skips(&self, chunk: &Chunk) -> bool {
        self.skip_empty_chunks && chunk.is_empty()
    }
}
