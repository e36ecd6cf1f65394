//! What a node returns, and where a graph goes next.

use crate::Value;

/// The name by which edges and routes speak of a graph's entry.
pub const START: &str = "__start__";
/// The name by which edges and routes speak of a graph's end. `END` in documents.
pub const END: &str = "__end__";

/// What a node writes: values by channel, in order. The same channel may be written more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Channel and value, in the order written.
    pub writes: Vec<(std::sync::Arc<str>, Value)>,
    /// Why a typed value could not be written, where one could not: the node that returns the update fails with it.
    pub fault: Option<String>,
}

impl Update {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a channel.
    #[must_use]
    pub fn set(mut self, channel: impl Into<std::sync::Arc<str>>, value: impl Into<Value>) -> Self {
        self.writes.push((channel.into(), value.into()));
        self
    }

    /// Writes a channel with a typed value.
    #[must_use]
    pub fn typed<T: serde::Serialize>(mut self, channel: &str, value: &T) -> Self {
        match crate::to_value(value) {
            Ok(value) => self.set(channel, value),
            Err(error) => {
                self.fault = Some(format!("channel `{channel}` cannot hold the value: {error}"));
                self
            }
        }
    }

    /// Writes a channel, past its reducer: the value replaces what is there.
    #[must_use]
    pub fn overwrite(self, channel: impl Into<std::sync::Arc<str>>, value: impl Into<Value>) -> Self {
        self.set(channel, overwrite(value.into()))
    }

    /// The object `{channel: value}`.
    pub fn to_value(&self) -> Value {
        Value::Object(self.writes.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// The value that, written to a channel with a reducer, replaces what is there: `{"__overwrite__": value}`.
pub fn overwrite(value: Value) -> Value {
    Value::Object([(OVERWRITE, value)].into_iter().collect())
}

/// The key of [`overwrite`].
pub const OVERWRITE: &str = "__overwrite__";

/// A task for a node with an input of its own, in the next step.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Send {
    /// The node.
    pub node: std::sync::Arc<str>,
    /// What the node is given in place of the state.
    pub input: Value,
}

/// Where to go: a node by name (or [`END`]), or a task of its own.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goto {
    /// A node, on the shared state.
    Node(std::sync::Arc<str>),
    /// A node, on an input of its own.
    Send(Send),
}

impl From<&str> for Goto {
    fn from(node: &str) -> Self {
        Self::Node(node.into())
    }
}

impl From<String> for Goto {
    fn from(node: String) -> Self {
        Self::Node(node.into())
    }
}

impl From<Send> for Goto {
    fn from(send: Send) -> Self {
        Self::Send(send)
    }
}

/// Answers to open questions.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// For the one open question.
    One(Value),
    /// By question id.
    ById(Vec<(std::sync::Arc<str>, Value)>),
}

/// An update and where to go, from a node or as the input of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// What to write.
    pub update: Option<Update>,
    /// Where to go, beside the static edges.
    pub goto: Vec<Goto>,
    /// Answers; only as the input of a run.
    pub resume: Option<Answer>,
    /// True where it is for the parent graph.
    pub parent: bool,
}

impl Command {
    /// A command that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers the one open question.
    pub fn resume(answer: impl Into<Value>) -> Self {
        Self { resume: Some(Answer::One(answer.into())), ..Self::default() }
    }

    /// Writes.
    #[must_use]
    pub fn update(mut self, update: Update) -> Self {
        self.update = Some(update);
        self
    }

    /// Goes.
    #[must_use]
    pub fn goto(mut self, to: impl Into<Goto>) -> Self {
        self.goto.push(to.into());
        self
    }

    /// For the parent graph.
    #[must_use]
    pub fn to_parent(mut self) -> Self {
        self.parent = true;
        self
    }
}

/// What a node gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Output {
    /// Nothing.
    #[default]
    Nothing,
    /// An update.
    Update(Update),
    /// An update and where to go.
    Command(Command),
    /// Several of these, in order.
    Many(Vec<Output>),
}

impl From<()> for Output {
    fn from((): ()) -> Self {
        Self::Nothing
    }
}

impl From<Update> for Output {
    fn from(update: Update) -> Self {
        Self::Update(update)
    }
}

impl From<Command> for Output {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

impl<T: Into<Output>> From<Option<T>> for Output {
    fn from(output: Option<T>) -> Self {
        output.map_or(Self::Nothing, Into::into)
    }
}

impl<T: Into<Output>> From<Vec<T>> for Output {
    fn from(outputs: Vec<T>) -> Self {
        Self::Many(outputs.into_iter().map(Into::into).collect())
    }
}
