//! Nodes and routes: the traits, what a node is given, and the policies beside it.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::Graph;
use crate::{
    Context, NodeError, Object, Value,
    command::{Goto, Output},
    stream::SnapshotRef,
};

/// A node's work. [`node`] makes one of an async closure.
pub trait Node: Send + Sync + 'static {
    /// Runs it once.
    fn call(&self, state: StateView, cx: Context) -> BoxFuture<'static, Result<Output, NodeError>>;

    /// The graphs that it runs inside, for drawings and for looking up their states.
    fn subgraphs(&self) -> Vec<Graph> {
        Vec::new()
    }

    /// Whether one of these, by its place among them, keeps its own state from one run to the next.
    fn keeps_state(&self, _subgraph: usize) -> bool {
        false
    }
}

/// Where to go from a node, decided by the state.
pub trait Route: Send + Sync + 'static {
    /// Decides. What it reads is the state with the writes of its own node, not its siblings'.
    fn call(&self, state: &StateView, cx: &Context) -> Result<Vec<Goto>, NodeError>;

    /// The same for a route that has to wait, for a worker: the future is awaited in place of [`call`](Self::call).
    fn decide(&self, _state: &StateView, _cx: &Context) -> Option<BoxFuture<'static, Result<Vec<Goto>, NodeError>>> {
        None
    }
}

impl<F> Route for F
where
    F: Fn(&StateView, &Context) -> Result<Vec<Goto>, NodeError> + Send + Sync + 'static,
{
    fn call(&self, state: &StateView, cx: &Context) -> Result<Vec<Goto>, NodeError> {
        self(state, cx)
    }
}

/// What a node or a route reads: the shared state, or a Send's input. Cheap to clone.
#[derive(Clone, Debug)]
pub enum StateView {
    /// The state of the graph as it was before the step.
    State(SnapshotRef),
    /// An input of its own.
    Input(Value),
}

impl StateView {
    /// A channel, or a field of the input.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::State(snapshot) => snapshot.get(name),
            Self::Input(input) => input.get(name),
        }
    }

    /// All of it, as a value. Shares what it holds.
    pub fn to_value(&self) -> Value {
        match self {
            Self::State(snapshot) => Value::Object(snapshot.to_object()),
            Self::Input(input) => input.clone(),
        }
    }
}

/// When to try a node again.
#[derive(Clone)]
pub struct RetryPolicy {
    /// The most attempts, the first counted. Default 3.
    pub max_attempts: u32,
    /// Before the second attempt. Default 500 ms.
    pub initial_interval: Duration,
    /// Each pause is so many times the one before. Default 2.
    pub backoff: f64,
    /// The longest pause. Default 128 s.
    pub max_interval: Duration,
    /// Adds up to a second at random. Default true.
    pub jitter: bool,
    /// Which failures to try again; none means all but those marked permanent.
    pub retry_on: Option<Arc<dyn Fn(&crate::NodeFailure) -> bool + Send + Sync>>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval: Duration::from_millis(500),
            backoff: 2.0,
            max_interval: Duration::from_secs(128),
            jitter: true,
            retry_on: None,
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy").field("max_attempts", &self.max_attempts).finish_non_exhaustive()
    }
}

/// What restarts the idle timeout of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshOn {
    /// Whatever the node emits or streams, and heartbeats.
    #[default]
    Auto,
    /// Only [heartbeats](Context::heartbeat).
    Heartbeat,
}

/// Keeps what a node wrote, by graph revision, node, input, context and configurable, and takes it from there next time.
/// What it made of an answer, or of the state that a graph inside it keeps, is not kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct CachePolicy {
    /// For how long; none means for good.
    pub ttl: Option<Duration>,
}

/// A node with its policies.
#[derive(Clone)]
pub struct NodeSpec {
    /// Its work.
    pub node: Arc<dyn Node>,
    /// When to try again. None: never.
    pub retry: Option<RetryPolicy>,
    /// The longest one attempt may take.
    pub timeout: Option<Duration>,
    /// The longest one attempt may go without progress.
    pub idle_timeout: Option<Duration>,
    /// What counts as progress for the idle timeout.
    pub refresh_on: RefreshOn,
    /// Whether to keep what it writes.
    pub cache: Option<CachePolicy>,
    /// Runs only when nothing else would.
    pub defer: bool,
    /// Its tags, which what runs inside inherits.
    pub tags: Vec<Arc<str>>,
    /// Its metadata, over the run's.
    pub metadata: Object,
    /// Where its commands may go, for drawing and checking. None where they may go anywhere.
    pub destinations: Option<Vec<Arc<str>>>,
    /// Runs when the node has failed and is not retried any more: see [`NodeSpec::error_handler`].
    pub error_handler: Option<Box<NodeSpec>>,
}

impl NodeSpec {
    /// A node without policies.
    pub fn new(node: impl Node) -> Self {
        Self::shared(Arc::new(node))
    }

    /// The same of a shared node.
    pub fn shared(node: Arc<dyn Node>) -> Self {
        Self {
            node,
            retry: None,
            timeout: None,
            idle_timeout: None,
            refresh_on: RefreshOn::Auto,
            cache: None,
            defer: false,
            tags: Vec::new(),
            metadata: Object::default(),
            destinations: None,
            error_handler: None,
        }
    }

    /// Tries again.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Fails an attempt that takes longer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Fails an attempt that makes no progress for longer: emits nothing, calls nothing that streams, sends no
    /// [heartbeat](Context::heartbeat).
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Says what counts as progress for the idle timeout.
    #[must_use]
    pub fn refresh_on(mut self, refresh: RefreshOn) -> Self {
        self.refresh_on = refresh;
        self
    }

    /// Handles the node's failure, after its retries: `handler` runs in the same superstep, as node
    /// `__error_handler__<name>`, on the same input, and finds the error in [`Context::error`]. The run goes on with what it
    /// returns: writes, or a command. The edges of the failed node are not followed. If the handler fails, the run fails.
    ///
    /// Interrupts, cancellation and failures of the store are not handled. A handler can have retries and timeouts, but no
    /// cache, no `defer` and no handler of its own.
    #[must_use]
    pub fn error_handler(mut self, handler: NodeSpec) -> Self {
        self.error_handler = Some(Box::new(handler));
        self
    }

    /// Keeps what it writes.
    #[must_use]
    pub fn cache(mut self, policy: CachePolicy) -> Self {
        self.cache = Some(policy);
        self
    }

    /// Runs when nothing else would.
    #[must_use]
    pub fn defer(mut self) -> Self {
        self.defer = true;
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Says where its commands may go.
    #[must_use]
    pub fn destinations<T: Into<Arc<str>>>(mut self, nodes: impl IntoIterator<Item = T>) -> Self {
        self.destinations = Some(nodes.into_iter().map(Into::into).collect());
        self
    }
}

/// What a node or route of type `S` can be made from: the state, typed, or an input of its own.
pub trait FromState: Sized {
    /// Reads it.
    fn from_state(state: &StateView) -> Result<Self, NodeError>;
}

impl FromState for StateView {
    fn from_state(state: &StateView) -> Result<Self, NodeError> {
        Ok(state.clone())
    }
}

struct FnNode<S, F>(F, PhantomData<fn(S)>);

impl<S, F, Fut, O> Node for FnNode<S, F>
where
    S: FromState + Send + 'static,
    F: Fn(S, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, NodeError>> + Send + 'static,
    O: Into<Output>,
{
    fn call(&self, state: StateView, cx: Context) -> BoxFuture<'static, Result<Output, NodeError>> {
        match S::from_state(&state) {
            Ok(typed) => {
                let work = (self.0)(typed, cx);
                Box::pin(async move { Ok(work.await?.into()) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// A node of an async closure: `node(|state: MyState, cx| async move { … })`.
///
/// The state is a type with `#[derive(State)]`, or [`StateView`] for the untyped one.
pub fn node<S, F, Fut, O>(work: F) -> NodeSpec
where
    S: FromState + Send + 'static,
    F: Fn(S, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, NodeError>> + Send + 'static,
    O: Into<Output>,
{
    NodeSpec::new(FnNode(work, PhantomData))
}
