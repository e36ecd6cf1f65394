//! Channels: the parts of a graph's state, each with a reducer that says how writes come together.

mod messages;
mod reducer;

use std::sync::Arc;

pub(crate) use messages::MessageIndex;
pub use messages::{coerce_message, coerce_messages, coerce_prompt};
pub(crate) use reducer::Undo;
pub use reducer::{Reducer, ReducerFn};

use crate::Value;

/// A channel as a graph declares it.
#[derive(Clone, Debug)]
pub struct ChannelSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How writes come together.
    pub reducer: Reducer,
    /// What it holds before the first write; none means what the reducer starts as.
    pub default: Option<Value>,
    /// JSON Schema of its value, for those who call the graph.
    pub schema: Option<Value>,
}

impl ChannelSpec {
    /// A channel that holds the last value written.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), reducer: Reducer::Replace, default: None, schema: None }
    }

    /// With a reducer.
    #[must_use]
    pub fn reducer(mut self, reducer: Reducer) -> Self {
        self.reducer = reducer;
        self
    }

    /// With a first value.
    #[must_use]
    pub fn default_value(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// With a JSON Schema.
    #[must_use]
    pub fn schema(mut self, schema: Value) -> Self {
        self.schema = Some(schema);
        self
    }

    /// What the channel holds before the first write.
    pub fn start(&self) -> Option<Value> {
        self.default.clone().or_else(|| self.reducer.start())
    }
}
