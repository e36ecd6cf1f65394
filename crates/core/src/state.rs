//! The state of threads: read at any checkpoint, listed, and written by hand.

use std::sync::Arc;

use runloom_engine::{
    CheckpointId, END, Graph, Object, START, StateUpdate, ThreadId, Value,
    checkpoint::{CheckpointConfig, CheckpointFilter, CheckpointView},
    stream::Snapshot,
};
use runloom_store::{Page, Thread, ThreadStatus, ThreadUpdate};

use crate::{
    Error, Reason, Result, Session,
    graphs::{Served, check_nodes},
    runs::open_questions,
};

/// Which state of a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct StateQuery {
    /// The thread.
    pub thread: ThreadId,
    /// The checkpoint; none for the latest, with what has finished of a stopped step.
    pub checkpoint_id: Option<CheckpointId>,
    /// Of which subgraph: `node:task_id` segments joined by `|`; empty for the graph itself.
    pub namespace: String,
    /// Whether to look into the subgraphs that the checkpoint's tasks are in, through all levels.
    pub subgraphs: bool,
}

impl StateQuery {
    /// The latest state of a thread.
    pub fn latest(thread: ThreadId) -> Self {
        Self { thread, checkpoint_id: None, namespace: String::new(), subgraphs: false }
    }
}

/// A write to a thread's state by hand.
#[derive(Clone, Debug)]
pub struct StateUpdateRequest {
    /// The thread.
    pub thread: ThreadId,
    /// The checkpoint to start from: the thread forks there. None for the latest.
    pub checkpoint_id: Option<CheckpointId>,
    /// The state of which subgraph: `node:task_id` segments joined by `|`; empty for the graph itself.
    pub namespace: String,
    /// What to write, and as which nodes; several are written as one step.
    pub updates: Vec<StateUpdate>,
    /// Refuses the write unless this is the thread's latest checkpoint.
    pub expected_checkpoint_id: Option<CheckpointId>,
    /// The graph, for a thread that has not run yet; none for that of its last run.
    pub graph: Option<String>,
}

/// How often an update by hand starts again where another one came between.
const TRIES: usize = 10;

/// The most supersteps of one call.
const MAX_SUPERSTEPS: usize = 1000;

impl Session {
    /// The state of a thread. One that never ran has an empty one.
    pub async fn get_state(&self, query: StateQuery) -> Result<CheckpointView> {
        let thread = self.inner.store.get_thread(self.tenant(), query.thread).await?;
        let Some(served) = self.graph_of(&thread)? else {
            return match query.checkpoint_id {
                Some(id) => Err(no_checkpoint(thread.id, id)),
                None => Ok(empty_view()),
            };
        };
        let graph = self.by_hand(&served);
        inner_graph(&graph, &query.namespace)?;
        let (id, at) = (query.thread, query.checkpoint_id);
        let view = match at {
            None => latest_state(&graph, id, &query.namespace, query.subgraphs).await,
            at => graph.get_subgraph_state(id, &query.namespace, at, query.subgraphs).await,
        };
        view.map_err(|error| told(error, id))
    }

    /// The checkpoints of a thread, or of a subgraph of it, the newest first, a page at a time: the filter's limit, or
    /// 10, to a page. `token` is [`Page::next`] of the page before.
    pub async fn list_checkpoints(
        &self,
        thread: ThreadId,
        namespace: &str,
        mut filter: CheckpointFilter,
        token: Option<&str>,
    ) -> Result<Page<CheckpointView>> {
        let record = self.inner.store.get_thread(self.tenant(), thread).await?;
        if let Some(token) = token {
            let Ok(before) = token.parse() else {
                let message = "the page token is not one that a list of checkpoints gave; start at the first page";
                return Err(Error::new(Reason::PageTokenInvalid, message));
            };
            filter.before = Some(before);
        }
        let size = filter.limit.unwrap_or(10).clamp(1, 1000);
        filter.limit = Some(size + 1);
        let mut page = Page { items: Vec::new(), next: None };
        let Some(served) = self.graph_of(&record)? else { return Ok(page) };
        let graph = self.by_hand(&served);
        if namespace.is_empty() {
            page.items = graph.state_history(thread, filter).await.map_err(|error| told(error, thread))?;
        } else {
            inner_graph(&graph, namespace)?;
            let reader = self.inner.store.checkpointer_by_hand(self.tenant(), None);
            let saved = reader.list(thread, &graph.stored_namespace(namespace), filter).await;
            let fail = |error| runloom_engine::Error::Checkpointer { graph: served.name.to_string(), error };
            for saved in saved.map_err(fail)? {
                let view = graph.get_subgraph_state(thread, namespace, Some(saved.checkpoint.id), false).await;
                page.items.push(view.map_err(|error| told(error, thread))?);
            }
        }
        if page.items.len() > size {
            page.items.truncate(size);
            let last = page.items.last().and_then(|view| view.config.as_ref()?.id);
            page.next = last.map(|id| id.to_string());
        }
        Ok(page)
    }

    /// Refuses a checkpoint that a thread, or a subgraph of it, does not have.
    pub async fn check_checkpoint(&self, thread: ThreadId, namespace: &str, id: CheckpointId) -> Result<()> {
        self.inner.store.get_thread(self.tenant(), thread).await?;
        let saved = self.inner.store.checkpointer_by_hand(self.tenant(), None).get(thread, namespace, Some(id)).await;
        let saved = saved.map_err(|e| Error::new(Reason::StoreUnavailable, e.to_string()))?;
        saved.map(drop).ok_or_else(|| no_checkpoint(thread, id))
    }

    /// Writes to a thread's state, as if nodes had: their edges and routes decide what runs next. Gives the checkpoint
    /// made. Refused while a run of the thread is active.
    pub async fn update_state(&self, request: StateUpdateRequest) -> Result<CheckpointConfig> {
        for _ in 1..TRIES {
            match self.try_update_state(&request).await {
                // Somebody else wrote to the thread meanwhile; who expects no checkpoint writes after them.
                Err(error) if error.reason == Reason::CheckpointChanged && request.expected_checkpoint_id.is_none() => {
                }
                done => return done,
            }
        }
        self.try_update_state(&request).await
    }

    /// Writes several supersteps to a thread's state, each from the checkpoint of the one before; all are validated before the
    /// first is written. Returns the last checkpoint. `request` says where; its own updates do not count.
    pub async fn bulk_update_state(
        &self,
        request: StateUpdateRequest,
        supersteps: Vec<Vec<StateUpdate>>,
    ) -> Result<CheckpointConfig> {
        let within = |step: usize, mut error: Error| {
            error.fields.iter_mut().for_each(|(path, _)| *path = format!("supersteps[{step}].{path}"));
            error.with("superstep", step)
        };
        if supersteps.is_empty() {
            return Err(Error::field("supersteps", "there is nothing to write: give at least one superstep"));
        }
        if supersteps.len() > MAX_SUPERSTEPS {
            return Err(Error::field("supersteps", format!("more than {MAX_SUPERSTEPS}")));
        }
        let thread = self.inner.store.get_thread(self.tenant(), request.thread).await?;
        let served = self.graph_to_update(&thread, &request)?;
        let inner = inner_graph(&served.graph, &request.namespace)?;
        for (step, updates) in supersteps.iter().enumerate() {
            let request = StateUpdateRequest { updates: updates.clone(), ..request.clone() };
            checked(&served, &inner, &request).map_err(|error| within(step, error))?;
        }
        let mut request = request;
        let mut made = None;
        for (step, updates) in supersteps.into_iter().enumerate() {
            request.updates = updates;
            let config = self.update_state(request.clone()).await.map_err(|error| within(step, error))?;
            // The next one fails where somebody else has written to the thread in between.
            match request.namespace.is_empty() {
                true => (request.checkpoint_id, request.expected_checkpoint_id) = (None, config.id),
                false => request.checkpoint_id = config.id,
            }
            made = Some(config);
        }
        made.ok_or_else(|| Error::field("supersteps", "there is nothing to write"))
    }

    /// The graph that an update is for.
    fn graph_to_update(&self, thread: &Thread, request: &StateUpdateRequest) -> Result<Arc<Served>> {
        if let Some(name) = &request.graph {
            return self.inner.registry.latest(self.tenant(), name);
        }
        self.graph_of(thread)?.ok_or_else(|| {
            let what = "the thread has not run yet, so its graph is not known: name the graph, or set `graph_id` in \
                        the thread's metadata";
            Error::field("graph", what).with("thread_id", thread.id)
        })
    }

    async fn try_update_state(&self, request: &StateUpdateRequest) -> Result<CheckpointConfig> {
        let id = request.thread;
        for update in &request.updates {
            self.check_size("values", update.values.as_ref().unwrap_or(&Value::Null))?;
        }
        let thread = self.inner.store.get_thread(self.tenant(), id).await?;
        let served = self.graph_to_update(&thread, request)?;
        let inner = inner_graph(&served.graph, &request.namespace)?;
        self.check_not_busy(id).await?;
        let reader = self.inner.store.checkpointer_by_hand(self.tenant(), None);
        let fail = |error| runloom_engine::Error::Checkpointer { graph: served.name.to_string(), error };
        let latest = reader.get(id, "", None).await.map_err(fail)?.map(|saved| saved.checkpoint);
        let latest_id = latest.as_ref().map(|checkpoint| checkpoint.id);
        if let Some(expected) = request.expected_checkpoint_id {
            check_expected(id, expected, latest_id)?;
        }
        let from = match (request.checkpoint_id, latest) {
            (at, _) if !request.namespace.is_empty() => {
                reader.get(id, &served.graph.stored_namespace(&request.namespace), at).await.map_err(fail)?
            }
            (Some(at), _) => reader.get(id, "", Some(at)).await.map_err(fail)?,
            (None, latest) => {
                latest.map(|checkpoint| runloom_engine::checkpoint::Saved { checkpoint, tasks: Vec::new() })
            }
        };
        if let (None, Some(at)) = (&from, request.checkpoint_id) {
            return Err(no_checkpoint(id, at));
        }
        if let (Some(from), "") = (&from, &*request.namespace) {
            self.fits(&from.checkpoint, &served.graph, false)?;
        }
        let seen = latest_id;
        let writer = self.store().checkpointer_by_hand(self.tenant(), Some(seen));
        let graph = served.graph.with_checkpointer(writer);
        let updates = checked(&served, &inner, request)?;
        let mut metadata = Object::default();
        metadata.insert("graph_id", &served.name);
        if let Some(at) = request.checkpoint_id {
            metadata.insert("checkpoint_id", at.to_string());
        }
        let made = graph.update_state(id, request.checkpoint_id, &request.namespace, updates, metadata).await;
        let made = match made {
            Ok(made) => made,
            Err(runloom_engine::Error::Checkpointer {
                error: runloom_engine::CheckpointError::Moved { latest },
                ..
            }) => {
                let seen = request.expected_checkpoint_id.or(latest_id);
                return match seen {
                    Some(seen) => Err(check_expected(id, seen, latest).err().unwrap_or_else(|| changed(id))),
                    None => Err(changed(id)),
                };
            }
            Err(runloom_engine::Error::Checkpointer { .. }) if self.check_not_busy(id).await.is_err() => {
                // A run has begun meanwhile.
                self.check_not_busy(id).await?;
                return Err(Error::new(Reason::ThreadBusy, format!("thread {id} was busy")).with("thread_id", id));
            }
            // Nobody was named, and several could be meant.
            Err(runloom_engine::Error::InvalidStateUpdate { message, .. }) if message.contains("as_node") => {
                return Err(Error::field("as_node", message).with("graph", &served.name));
            }
            // A route, or a reducer, refuses what was written: the caller can write something else.
            Err(error @ runloom_engine::Error::Node { .. }) => {
                return Err(Error { reason: Reason::InvalidUpdate, ..told(error, id) });
            }
            Err(error) => return Err(told(error, id)),
        };
        let is_known = thread.graph.is_some() || thread.metadata.contains_key("graph_id");
        let update = ThreadUpdate {
            metadata: (!is_known).then(|| [("graph_id", Value::from(&served.name))].into_iter().collect()),
            ..self.noted_state(id, &served).await?
        };
        let changed = self.inner.store.update_thread(self.tenant(), id, update).await?;
        if let Some(at) = changed.state_updated_at {
            self.inner.runner.fits.lock().put(self.key(id), served.revision.clone(), at);
        }
        Ok(made)
    }

    /// What is noted on a thread whose state was written by hand last.
    pub(crate) async fn noted_state(&self, thread: ThreadId, served: &Served) -> Result<ThreadUpdate> {
        let view = latest_state(&self.by_hand(served), thread, "", false).await?;
        Ok(ThreadUpdate {
            status: Some(if view.next.is_empty() { ThreadStatus::Idle } else { ThreadStatus::Interrupted }),
            interrupts: Some(open_questions(&view)),
            error: Some(Value::Null),
            state_changed: true,
            ..ThreadUpdate::default()
        })
    }

    /// The graph of a thread: that of the run that began last, or the one that its metadata names as `graph_id`, in its
    /// latest revision. None where it has neither.
    fn graph_of(&self, thread: &Thread) -> Result<Option<Arc<Served>>> {
        let (registry, tenant) = (&self.inner.registry, self.tenant());
        match (&thread.graph, thread.metadata.get_str("graph_id")) {
            (Some(name), _) => registry.any(tenant, name).map(Some).map_err(|mut error| {
                error.message =
                    format!("thread {} last ran a graph that is not there any more: {}", thread.id, error.message);
                error.with("thread_id", thread.id)
            }),
            (None, Some(name)) => Ok(registry.latest(tenant, name).ok()),
            (None, None) => Ok(None),
        }
    }

    /// A graph for looking at threads and writing to them by hand.
    fn by_hand(&self, served: &Served) -> Graph {
        served.graph.with_checkpointer(self.inner.store.checkpointer_by_hand(self.tenant(), None))
    }
}

/// The latest state of a thread, or of a subgraph of it. Where what finished of a stopped step cannot be applied, which is
/// why it stopped, the state before that step stands.
pub(crate) async fn latest_state(
    graph: &Graph,
    thread: ThreadId,
    ns: &str,
    subgraphs: bool,
) -> Result<CheckpointView, runloom_engine::Error> {
    use runloom_engine::Error::{Checkpointer, InvalidUpdate};
    let stopped = match graph.get_subgraph_state(thread, ns, None, subgraphs).await {
        Err(error @ InvalidUpdate { .. }) => error,
        view => return view,
    };
    let fail = |error| Checkpointer { graph: graph.name().to_string(), error };
    let saver = graph.runtime().checkpointer.clone();
    let Some(saver) = saver else { return Err(stopped) };
    match saver.get(thread, ns, None).await.map_err(fail)? {
        Some(saved) => graph.get_subgraph_state(thread, ns, Some(saved.checkpoint.id), subgraphs).await,
        None => Err(stopped),
    }
}

/// Refuses where a thread does not stand where the caller saw it.
pub(crate) fn check_expected(thread: ThreadId, expected: CheckpointId, latest: Option<CheckpointId>) -> Result<()> {
    if latest == Some(expected) {
        return Ok(());
    }
    let now = latest.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let message = format!(
        "the latest checkpoint of thread {thread} is {now}, and {expected} was expected: somebody else has changed the \
         thread. Read its state again, then ask again"
    );
    let error = Error::new(Reason::CheckpointChanged, message).with("thread_id", thread);
    let error = error.with("expected_checkpoint_id", expected);
    Err(match latest {
        Some(id) => error.with("checkpoint_id", id),
        None => error,
    })
}

/// Somebody else wrote to the thread meanwhile.
fn changed(thread: ThreadId) -> Error {
    let message = format!("somebody else changed thread {thread} meanwhile; read its state again, then ask again");
    Error::new(Reason::CheckpointChanged, message).with("thread_id", thread)
}

/// The graph of a namespace.
fn inner_graph(graph: &Graph, namespace: &str) -> Result<Graph> {
    graph.subgraph_at(namespace).ok_or_else(|| {
        let what =
            format!("graph `{}` runs no graph inside at `{namespace}`; a namespace is `node:task_id`", graph.name());
        Error::field("namespace", what).with("graph", graph.name())
    })
}

/// The updates, with nodes that are known and values that the channels take.
fn checked(served: &Served, inner: &Graph, request: &StateUpdateRequest) -> Result<Vec<StateUpdate>> {
    if request.updates.is_empty() {
        return Err(Error::field("updates", "there is nothing to write: give at least one update"));
    }
    let many = request.updates.len() > 1;
    let path = |at: usize, field: &str| if many { format!("updates[{at}].{field}") } else { field.to_owned() };
    let ends = [START, "START", "__input__", "__copy__", END, "END"];
    let named = request.updates.iter().enumerate();
    let named = named.filter_map(|(at, update)| Some((path(at, "as_node"), update.as_node.as_deref()?)));
    let nodes: Vec<_> = named.filter(|(_, node)| !ends.contains(node)).collect();
    check_nodes(inner, &nodes)?;
    let mut updates = request.updates.clone();
    for (at, update) in updates.iter_mut().enumerate() {
        let node = update.as_node.as_deref().unwrap_or_default();
        if [END, "END"].contains(&node) && update.values.as_ref().is_some_and(|values| !values.is_null()) {
            let what = format!(
                "graph `{}` has no node `{node}`: nothing is written as the end. Leave the values out to end what is pending, \
                 or name the node that wrote them",
                inner.name()
            );
            let mut error = Error::field(path(at, "as_node"), what).with("graph", inner.name()).with("node", node);
            error.reason = Reason::NodeUnknown;
            return Err(error);
        }
        match &update.values {
            None | Some(Value::Null) => {}
            // A subgraph's channels are known to the engine, which checks by them.
            Some(Value::Object(_)) if !request.namespace.is_empty() => {}
            Some(Value::Object(fields)) => {
                update.values = Some(served.check_update(fields, &path(at, "values"))?.into());
            }
            Some(other) => {
                let what = format!("an update is an object by channel, not {}", other.kind());
                let mut error = Error::field(path(at, "values"), what);
                error.reason = Reason::InvalidUpdate;
                return Err(error.with("graph", &served.name));
            }
        }
    }
    Ok(updates)
}

/// A thread has no such checkpoint.
pub(crate) fn no_checkpoint(thread: ThreadId, id: CheckpointId) -> Error {
    let message = format!("thread {thread} has no checkpoint {id}; it may have been pruned, or be of another thread");
    Error::new(Reason::CheckpointNotFound, message).with("thread_id", thread).with("checkpoint_id", id)
}

/// An error of the engine, with the thread it is about.
pub(crate) fn told(error: runloom_engine::Error, thread: ThreadId) -> Error {
    match error {
        runloom_engine::Error::CheckpointNotFound(id) => no_checkpoint(thread, id),
        other => Error::from(other).with("thread_id", thread),
    }
}

/// The state of a thread that never ran.
fn empty_view() -> CheckpointView {
    let names: Arc<[Arc<str>]> = Arc::default();
    CheckpointView {
        config: None,
        parent: None,
        values: Arc::new(Snapshot { checkpoint: None, names: names.clone(), values: Vec::new() }),
        shown: names,
        next: Vec::new(),
        source: None,
        step: -1,
        run_id: None,
        metadata: Object::default(),
        parents: Object::default(),
        created_at: None,
        tasks: Vec::new(),
    }
}
