//! What a run's log records.

use runloom_engine::{
    Value,
    stream::{EventFilter, EventKind, Mode, Modes, Patterns},
};
use runloom_store::Run;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a run's log records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recording {
    /// The modes, as bits of [`Modes`]. 0 is `values`.
    pub modes: u32,
    /// Whether subgraphs are recorded too.
    pub subgraphs: bool,
    /// Which events are recorded.
    pub filter: FilterSpec,
    /// Merges chunks of a message: at most so many; 0 with no delay is off.
    pub coalesce_chunks: u32,
    /// And for at most so long, in milliseconds.
    pub coalesce_ms: u64,
}

impl Recording {
    /// The modes that are recorded.
    pub fn modes(&self) -> Modes {
        modes_of(self.modes)
    }

    /// The modes that a run records, without parsing the rest of its request.
    pub fn modes_of(run: &Run) -> Modes {
        // The first format was flat.
        let modes = run.request.get("recording").map_or_else(|| run.request.get("modes"), |all| all.get("modes"));
        let bits = modes.and_then(Value::as_u64);
        modes_of(bits.and_then(|bits| u32::try_from(bits).ok()).unwrap_or_default())
    }
}

/// The modes that bits stand for; `values` where there are none.
fn modes_of(bits: u32) -> Modes {
    if bits == 0 { Mode::Values.into() } else { Modes::from_bits(bits) }
}

/// Which events are recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterSpec {
    /// What is included.
    pub include: Selector,
    /// What is left out.
    pub exclude: Selector,
    /// Leaves out chunks that carry nothing.
    pub skip_empty_chunks: bool,
}

/// Names and kinds; empty lists say nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// `on_chat_model_stream`, …
    pub kinds: Vec<String>,
    /// Globs over the event's name.
    pub names: Vec<String>,
    /// Globs over its node.
    pub nodes: Vec<String>,
    /// Globs over its tags.
    pub tags: Vec<String>,
    /// Globs over its namespace.
    pub namespaces: Vec<String>,
}

impl FilterSpec {
    /// The filter itself. An error names the field.
    pub fn compile(&self) -> Result<EventFilter> {
        let kinds = |names: &[String], field: &str| {
            names
                .iter()
                .map(|n| n.parse::<EventKind>().map_err(|e| Error::field(format!("event_filter.{field}.kinds"), e)))
                .collect::<Result<Vec<_>>>()
        };
        let (i, e) = (&self.include, &self.exclude);
        let patterns = |include: &[String], exclude: &[String], field: &str| {
            Patterns::new(include, exclude).map_err(|e| Error::field(format!("event_filter.{field}"), e.to_string()))
        };
        Ok(EventFilter {
            include_kinds: kinds(&i.kinds, "include")?,
            exclude_kinds: kinds(&e.kinds, "exclude")?,
            names: patterns(&i.names, &e.names, "names")?,
            nodes: patterns(&i.nodes, &e.nodes, "nodes")?,
            tags: patterns(&i.tags, &e.tags, "tags")?,
            namespaces: patterns(&i.namespaces, &e.namespaces, "namespaces")?,
            skip_empty_chunks: self.skip_empty_chunks,
        })
    }
}
