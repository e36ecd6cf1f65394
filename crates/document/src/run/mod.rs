//! Running a node of a document: its steps in order, what they bind, what they come to.

mod chat;
mod goto;
mod http;
mod mcp;
mod retrieve;
mod tools;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
pub(crate) use goto::{DocRoute, NO_DESTINATION};
use runloom_engine::{
    Command, Context, Graph, HandledError, Node, NodeError, Output, StateView, SubgraphNode, Update, Value,
    command::overwrite, value,
};
use runloom_workers::WorkerNode;

pub(crate) use self::{
    chat::Chat,
    http::{HeaderOf, HttpCall, Part},
    mcp::McpWork,
    retrieve::Retrieve,
    tools::RunTools,
};
use crate::{expr::Env, read::given::Given};

/// A node of a document.
pub(crate) struct DocNode {
    steps: Arc<[Step]>,
}

/// One action.
pub(crate) enum Step {
    Update(Vec<Write>),
    Emit(Vec<Given>),
    Event {
        name: Arc<str>,
        data: Given,
    },
    Interrupt {
        value: Given,
        schema: Option<Value>,
        bind: Arc<str>,
    },
    /// `to` are the only nodes it may go to, where the node has destinations.
    Command {
        update: Vec<Write>,
        goto: Option<Given>,
        parent: bool,
        to: Arc<[Arc<str>]>,
    },
    Chat(Chat),
    Tools(RunTools),
    Http {
        call: Box<HttpCall>,
        bind: Arc<str>,
    },
    Retrieve {
        retrieve: Box<Retrieve>,
        bind: Arc<str>,
    },
    Subgraph(Within),
    Worker(Box<WorkerNode>),
    Sleep(Given),
    Heartbeat,
    Fail(Given),
}

/// A value for a channel.
pub(crate) struct Write {
    pub channel: Arc<str>,
    pub value: Given,
    pub overwrite: bool,
}

/// A graph within the node.
pub(crate) struct Within {
    pub graph: Graph,
    pub input: Option<Arc<Mapping>>,
    pub output: Option<Arc<Mapping>>,
    pub persistent: bool,
}

/// How an object is made: by one expression, or field by field.
pub(crate) enum Mapping {
    Whole(Given),
    Fields(Vec<Write>),
}

impl DocNode {
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps: steps.into() }
    }
}

impl Node for DocNode {
    fn call(&self, state: StateView, cx: Context) -> BoxFuture<'static, Result<Output, NodeError>> {
        let steps = self.steps.clone();
        Box::pin(async move {
            let bound = cx.error().map(|error| (ERROR.into(), error_value(error))).into_iter().collect();
            let mut run = Run { state, cx, bound, update: None, commands: Vec::new() };
            for step in steps.iter() {
                run.step(step).await?;
            }
            Ok(run.output())
        })
    }

    fn subgraphs(&self) -> Vec<Graph> {
        let within = |step: &Step| match step {
            Step::Subgraph(within) => Some(within.graph.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(within).collect()
    }

    fn keeps_state(&self, subgraph: usize) -> bool {
        let mut within = self.steps.iter().filter_map(|s| if let Step::Subgraph(w) = s { Some(w) } else { None });
        within.nth(subgraph).is_some_and(|w| w.persistent)
    }
}

/// One run of a node.
pub(crate) struct Run {
    pub state: StateView,
    pub cx: Context,
    /// What steps have bound.
    pub bound: Vec<(Arc<str>, Value)>,
    /// What steps have written; none while none has.
    update: Option<Update>,
    commands: Vec<Command>,
}

/// What expressions see in a node.
pub(crate) fn env<'a>(state: &'a StateView, cx: &'a Context, bound: &'a [(Arc<str>, Value)]) -> Env<'a> {
    Env {
        state,
        context: cx.context(),
        config: cx.configurable(),
        attempt: cx.attempt(),
        args: None,
        result: None,
        bound,
    }
}

impl Run {
    pub fn eval(&self, given: &Given) -> Result<Value, NodeError> {
        given.eval(&env(&self.state, &self.cx, &self.bound))
    }

    pub fn bind(&mut self, name: &Arc<str>, value: Value) {
        self.bound.push((name.clone(), value));
    }

    /// Writes a channel; a later write of the same channel takes the place of an earlier one.
    pub fn write(&mut self, channel: &Arc<str>, value: Value) {
        let writes = &mut self.update.get_or_insert_default().writes;
        match writes.iter_mut().find(|(name, _)| name == channel) {
            Some((_, before)) => *before = value,
            None => writes.push((channel.clone(), value)),
        }
    }

    fn merge(&mut self, update: Update) {
        self.update.get_or_insert_default();
        update.writes.iter().for_each(|(channel, value)| self.write(channel, value.clone()));
    }

    async fn step(&mut self, step: &Step) -> Result<(), NodeError> {
        match step {
            Step::Update(writes) => {
                let made = writes_of(writes, &env(&self.state, &self.cx, &self.bound))?;
                self.merge(made);
            }
            Step::Emit(all) => {
                for data in all {
                    self.cx.emit(self.eval(data)?);
                }
                self.cx.breathe().await;
            }
            Step::Event { name, data } => self.cx.event(name.clone(), self.eval(data)?),
            Step::Interrupt { value, schema, bind } => {
                let value = self.eval(value)?;
                let answer = match schema {
                    Some(schema) => self.cx.interrupt_with(value, schema.clone())?,
                    None => self.cx.interrupt(value)?,
                };
                self.bind(bind, answer);
            }
            Step::Command { update, goto, parent, to } => {
                let goto = match goto {
                    Some(goto) => goto::of_command(&self.eval(goto)?, to)?,
                    None => Vec::new(),
                };
                let update = match &update[..] {
                    [] => None,
                    writes => Some(writes_of(writes, &env(&self.state, &self.cx, &self.bound))?),
                };
                self.commands.push(Command { update, goto, resume: None, parent: *parent });
            }
            Step::Chat(chat) => chat.run(self).await?,
            Step::Tools(tools) => tools.run(self).await?,
            Step::Http { call, bind } => {
                let answer = call.call(&env(&self.state, &self.cx, &self.bound)).await?;
                self.bind(bind, answer.into_value());
            }
            Step::Retrieve { retrieve, bind } => {
                let found = retrieve.run(self).await?;
                self.bind(bind, found);
            }
            Step::Subgraph(within) => self.subgraph(within).await?,
            Step::Worker(node) => {
                let output = node.run(self.state.clone(), &self.cx).await?;
                self.add(output);
            }
            Step::Sleep(ms) => sleep(&self.eval(ms)?).await?,
            Step::Heartbeat => self.cx.heartbeat(),
            Step::Fail(message) => fail(&self.eval(message)?)?,
        }
        Ok(())
    }

    async fn subgraph(&mut self, within: &Within) -> Result<(), NodeError> {
        let input = within.input.clone().map(|map| {
            let bound = self.bound.clone();
            Arc::new(move |state: &StateView, cx: &Context| map.object(&env(state, cx, &bound))) as _
        });
        let output = within.output.clone().map(|map| {
            let bound = self.bound.clone();
            Arc::new(move |result: Value, state: &StateView, cx: &Context| {
                map.update(&Env { result: Some(&result), ..env(state, cx, &bound) })
            }) as _
        });
        let node = SubgraphNode { graph: within.graph.clone(), input, output, persistent: within.persistent };
        let output = node.call(self.state.clone(), self.cx.clone()).await?;
        self.add(output);
        Ok(())
    }

    fn add(&mut self, output: Output) {
        match output {
            Output::Update(update) => self.merge(update),
            Output::Command(command) => self.commands.push(command),
            Output::Many(outputs) => outputs.into_iter().for_each(|output| self.add(output)),
            Output::Nothing => {}
        }
    }

    /// The one update, or the list of it and the commands.
    fn output(self) -> Output {
        let mut commands = self.commands;
        match (self.update, commands.len()) {
            (None, 0) => Output::Nothing,
            (Some(update), 0) => Output::Update(update),
            (None, 1) => commands.pop().map_or(Output::Nothing, Output::Command),
            (update, _) => Output::Many(
                update.map(Output::Update).into_iter().chain(commands.into_iter().map(Output::Command)).collect(),
            ),
        }
    }
}

/// The name by which the expressions of an error handler see the error.
pub(crate) const ERROR: &str = "error";

fn error_value(error: &HandledError) -> Value {
    value!({
        "node": &*error.node,
        "type": &*error.failure.kind,
        "message": &*error.failure.message,
    })
}

/// What writes come to.
fn writes_of(writes: &[Write], env: &Env<'_>) -> Result<Update, NodeError> {
    let mut update = Update::new();
    for write in writes {
        let value = write.value.eval(env)?;
        let value = if write.overwrite { overwrite(value) } else { value };
        update = update.set(write.channel.clone(), value);
    }
    Ok(update)
}

impl Mapping {
    fn object(&self, env: &Env<'_>) -> Result<Value, NodeError> {
        match self {
            Self::Whole(given) => given.eval(env),
            Self::Fields(writes) => Ok(writes_of(writes, env)?.to_value()),
        }
    }

    fn update(&self, env: &Env<'_>) -> Result<Update, NodeError> {
        match self {
            Self::Fields(writes) => writes_of(writes, env),
            Self::Whole(given) => match given.eval(env)? {
                Value::Object(fields) => {
                    Ok(fields.iter().fold(Update::new(), |u, (name, value)| u.set(name.clone(), value.clone())))
                }
                other => {
                    Err(NodeError::msg(format!("`output` has to make an object by channel, not {}", other.kind())))
                }
            },
        }
    }
}

/// Waits so many milliseconds; a cancelled run drops the wait.
async fn sleep(ms: &Value) -> Result<(), NodeError> {
    let Some(ms) = ms.as_f64() else {
        return Err(NodeError::msg(format!("`sleep_ms` needs a number of milliseconds, not {}", ms.kind())));
    };
    if ms > 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(ms.min(MAX_SLEEP_MS) / 1000.0)).await;
    }
    Ok(())
}

/// Ten years.
const MAX_SLEEP_MS: f64 = 3.2e11;

/// A text that is not empty is a failure.
pub(crate) fn fail(message: &Value) -> Result<(), NodeError> {
    match message {
        Value::Null => Ok(()),
        Value::String(text) if text.is_empty() => Ok(()),
        Value::String(text) => Err(NodeError::msg(text)),
        other => Err(NodeError::msg(format!("`fail` needs a text, empty where nothing failed, not {}", other.kind()))),
    }
}
