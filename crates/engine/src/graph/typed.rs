//! The typed face: a graph whose state is a Rust struct.

use std::{marker::PhantomData, sync::Arc};

use super::{
    Graph, GraphBuilder,
    node::{FromState, NodeSpec, StateView},
};
use crate::{
    Context, Error, NodeError,
    channel::{ChannelSpec, Reducer},
    command::Goto,
    config::Breakpoints,
    value::{Value, from_value},
};

/// A state as a Rust struct: its fields are the channels. Derive it: `#[derive(State, Serialize, Deserialize)]`.
///
/// A field's reducer stands in an attribute: `#[state(append)]`, `#[state(add)]`, `#[state(messages)]`, …; without one
/// it holds the last value written. A channel that nothing has written yet reads as the field's `Default`.
///
/// The derive also makes `StateNameUpdate`, with a method per field, which `StateName::update()` begins.
pub trait State: FromState + Send + Sync + 'static {
    /// The channels.
    fn channels() -> Vec<ChannelSpec>;
}

/// Builds a graph over a typed state.
///
/// ```
/// # use runloom_engine::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(State, Serialize, Deserialize)]
/// struct Joke {
///     topic: String,
///     joke: String,
/// }
///
/// let graph = StateGraph::<Joke>::new("joke")
///     .add_node("tell", node(|state: Joke, _cx| async move {
///         Ok(Joke::update().joke(format!("A {} walks into a bar.", state.topic)))
///     }))
///     .add_edge(START, "tell")
///     .add_edge("tell", END)
///     .compile()?;
/// # Ok::<(), Error>(())
/// ```
pub struct StateGraph<S> {
    builder: GraphBuilder,
    state: PhantomData<fn() -> S>,
}

impl<S: State> StateGraph<S> {
    /// A graph of a name.
    pub fn new(name: impl Into<String>) -> Self {
        let mut builder = GraphBuilder::new(name);
        for channel in S::channels() {
            builder.add_channel(channel);
        }
        Self { builder, state: PhantomData }
    }

    /// Says what it is for.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.builder.description(text);
        self
    }

    /// Gives a channel another reducer than its attribute says.
    #[must_use]
    pub fn reducer(mut self, channel: &str, reducer: Reducer) -> Self {
        match self.builder.channels.iter_mut().find(|c| &*c.name == channel) {
            Some(c) => c.reducer = reducer,
            None => self.builder.problems.push(format!("`reducer` names channel `{channel}`, which the state lacks")),
        }
        self
    }

    /// Takes only these channels from a run's input.
    #[must_use]
    pub fn input(mut self, channels: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.builder.input(channels);
        self
    }

    /// Gives only these channels.
    #[must_use]
    pub fn output(mut self, channels: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.builder.output(channels);
        self
    }

    /// Adds a node: [`node`](super::node) of an async closure, with its policies.
    #[must_use]
    pub fn add_node(mut self, name: impl Into<Arc<str>>, node: NodeSpec) -> Self {
        self.builder.add_node(name, node);
        self
    }

    /// Adds a graph as a node; the two share channels by name.
    #[must_use]
    pub fn add_subgraph(self, name: impl Into<Arc<str>>, graph: Graph) -> Self {
        self.add_node(name, crate::run::subgraph(graph))
    }

    /// An edge: after `from`, always `to`.
    #[must_use]
    pub fn add_edge(mut self, from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> Self {
        self.builder.add_edge(from, to);
        self
    }

    /// A join: `to` runs once all of `from` have.
    #[must_use]
    pub fn add_join(mut self, from: impl IntoIterator<Item = impl Into<Arc<str>>>, to: impl Into<Arc<str>>) -> Self {
        self.builder.add_join(from, to);
        self
    }

    /// A route: after `from`, where the closure says: one of `targets`, a [`Send`](crate::command::Send), or several.
    ///
    /// `T` is the state, or [`StateView`] where the node may also be sent an input of another shape.
    #[must_use]
    pub fn add_conditional_edges<T, G>(
        mut self,
        from: impl Into<Arc<str>>,
        route: impl Fn(T) -> G + Send + Sync + 'static,
        targets: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Self
    where
        T: FromState,
        G: IntoGoto,
    {
        let route = move |state: &StateView, _: &Context| -> Result<Vec<Goto>, NodeError> {
            Ok(route(T::from_state(state)?).into_goto())
        };
        let from = from.into();
        let name = match self.builder.edges.get(&from).map_or(0, |e| e.routes.len()) {
            0 => "route".to_owned(),
            n => format!("route_{}", n + 1),
        };
        let targets = targets.into_iter().map(Into::into).collect();
        self.builder.add_route(from, name, Arc::new(route), Some(targets));
        self
    }

    /// Stops before nodes.
    #[must_use]
    pub fn interrupt_before<T: Into<Arc<str>>>(mut self, nodes: impl IntoIterator<Item = T>) -> Self {
        self.builder.interrupt_before(Breakpoints::Nodes(nodes.into_iter().map(Into::into).collect()));
        self
    }

    /// Stops after nodes.
    #[must_use]
    pub fn interrupt_after<T: Into<Arc<str>>>(mut self, nodes: impl IntoIterator<Item = T>) -> Self {
        self.builder.interrupt_after(Breakpoints::Nodes(nodes.into_iter().map(Into::into).collect()));
        self
    }

    /// Checks the whole graph. All that is wrong is in the error.
    pub fn compile(self) -> Result<Graph, Error> {
        self.builder.compile()
    }
}

/// What a route may return.
pub trait IntoGoto {
    /// As a list.
    fn into_goto(self) -> Vec<Goto>;
}

impl<T: Into<Goto>> IntoGoto for T {
    fn into_goto(self) -> Vec<Goto> {
        vec![self.into()]
    }
}

impl<T: Into<Goto>> IntoGoto for Vec<T> {
    fn into_goto(self) -> Vec<Goto> {
        self.into_iter().map(Into::into).collect()
    }
}

/// A field of a typed state: its channel's value, or the type's default where the channel is empty. For the derive.
#[doc(hidden)]
pub fn read_field<T: serde::de::DeserializeOwned + Default>(state: &StateView, name: &str) -> Result<T, NodeError> {
    match state.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => from_value(value).map_err(|e| {
            NodeError::new(
                "InvalidInput",
                format!("channel `{name}` holds {}, which does not fit the state's type: {e}", value.kind()),
            )
            .permanent()
        }),
    }
}
