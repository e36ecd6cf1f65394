//! Making runs: a request is checked against its graph and its thread, kept, and put in its thread's queue.

use std::sync::Arc;

use runloom_engine::{Object, RunId, ThreadId, Value};
use runloom_store::{
    CancelAction, IfExists, NewRun, NewThread, Page, PageRequest, RequestKey, Run, RunFilter, RunThread, Thread,
    ThreadUpdate, Topic,
};

use super::request::{Marks, RunOptions, RunRequest, RunSpec, Start, StoredRequest, hash_of, is_same};
use crate::{
    Error, Reason, Result, Session,
    log::{Body, Codec, End, Outcome, ReadOptions, Reading},
    state::no_checkpoint,
};

/// How long a rollback is waited for.
const ROLLBACK: std::time::Duration = std::time::Duration::from_secs(5);

/// A run that was checked and is to be made.
pub struct PreparedRun(Prepared);

pub(crate) struct Prepared {
    pub new: NewRun,
    /// What its thread is to note.
    pub mark: Option<(ThreadId, ThreadUpdate)>,
    pub spec: RunSpec,
}

/// Counts as a reader of a run that was made to be read, until it is dropped.
#[must_use = "dropped, it is a reader that left"]
pub struct Attending {
    _reading: Option<Reading>,
}

/// A run that was asked for.
struct Made {
    run: Run,
    is_new: bool,
    reading: Option<Reading>,
}

impl Session {
    /// Makes a run. It is on disk when this answers, and begins when its thread is free. `false` where the same request
    /// had made it before.
    pub async fn create_run(&self, request: RunRequest) -> Result<(Run, bool)> {
        let made = self.create(request, false).await?;
        Ok((made.run, made.is_new))
    }

    /// Makes a run for a caller who is to read it, and counts as a reader from the moment it is made: a caller that goes
    /// away before it reads has left. Hold what comes with the run until its reader is there.
    pub async fn create_run_to_read(&self, request: RunRequest) -> Result<(Run, Attending)> {
        let made = self.create(request, true).await?;
        Ok((made.run, Attending { _reading: made.reading }))
    }

    /// Checks a run as if it were to be made, and makes nothing yet: of many runs all can be checked before the first is
    /// made. A `request_id` is not looked at.
    pub async fn prepare_run(&self, request: RunRequest) -> Result<PreparedRun> {
        self.check_takes_runs()?;
        self.prepare(&request).await.map(PreparedRun)
    }

    /// Makes a run that was prepared.
    pub async fn create_prepared_run(&self, prepared: PreparedRun) -> Result<Run> {
        Ok(self.begin(prepared.0, false).await?.run)
    }

    fn check_takes_runs(&self) -> Result<()> {
        if !self.inner.draining.is_cancelled() {
            return Ok(());
        }
        let message = "the server is going down and takes no new runs; ask again";
        Err(Error::new(Reason::ServerDraining, message).retry_after(std::time::Duration::from_secs(1)))
    }

    async fn create(&self, request: RunRequest, is_read: bool) -> Result<Made> {
        self.check_takes_runs()?;
        check_shape(&request)?;
        if let Some(run) = self.made_before(&request).await? {
            return Ok(Made { run, is_new: false, reading: None });
        }
        let prepared = self.prepare(&request).await?;
        self.begin(prepared, is_read).await
    }

    async fn begin(&self, prepared: Prepared, is_read: bool) -> Result<Made> {
        // A caller that goes away now must not leave a run that is kept and never begins.
        let core = self.clone();
        let made = tokio::spawn(async move { core.make_run(prepared, is_read).await });
        made.await.map_err(|_| Error::new(Reason::Internal, "the run was not made: the server is going down"))?
    }

    /// Checks a request against its graph and its thread, and gives the run that it asks for.
    pub(crate) async fn prepare(&self, request: &RunRequest) -> Result<Prepared> {
        check_shape(request)?;
        let store = &self.inner.store;
        let thread = match request.thread_id {
            None => None,
            Some(id) => match store.get_thread(self.tenant(), id).await {
                Ok(thread) => Some(thread),
                Err(runloom_store::Error::NotFound { .. }) if request.create_thread => None,
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(thread) = thread.as_ref().filter(|t| t.stateless) {
            let what = format!(
                "thread {} is that of a stateless run, which goes with it; make a thread of your own",
                thread.id
            );
            return Err(Error::field("thread_id", what));
        }
        let (assistant, served) = self.resolve_target(&request.target).await?;
        let mut spec = self.effective(request, thread.as_ref(), &assistant)?;
        // Looked at again when the run begins: it may have to wait for its thread.
        let mut marks = Marks::of(request);
        match &mut spec.options.start {
            Start::Resume => {}
            Start::Input(input) => *input = self.check_input(&served, input)?,
            Start::Command(command) => {
                self.check_command_sizes(command)?;
                // LangGraph makes such a run, and has it fail.
                if spec.options.strict {
                    command.update = served.check_command(&command.update)?;
                }
            }
        }
        spec.recording.filter.compile()?;
        self.check_webhook(&spec.delivery)?;
        spec.options.durability()?;
        served.check_nodes(&named_nodes(&spec))?;
        match (&thread, request.thread_id, request.spec.options.checkpoint_id) {
            (Some(thread), ..) => self.check_thread(thread, &served, request).await?,
            (None, Some(id), Some(at)) => return Err(no_checkpoint(id, at)),
            (None, ..) => {}
        }
        self.check_start(thread.as_ref(), &served, request).await?;
        self.check_answers(thread.as_ref(), request)?;

        // A thread says of which graph and assistant its last run is; both writes go to the disk together.
        let mark = thread.as_ref().filter(|t| !is_marked(t, &assistant.id.to_string(), &served.name)).map(|thread| {
            let mark = thread_metadata(&assistant.id.to_string(), &served.name);
            let before = |key: &Arc<str>| (key.clone(), thread.metadata.get(key).cloned().unwrap_or_default());
            marks.replaced_metadata = Some(mark.keys().map(before).collect());
            (thread.id, ThreadUpdate { metadata: Some(mark), ..ThreadUpdate::default() })
        });
        let stored = StoredRequest { spec, marks };
        let request_key = match &request.request_id {
            Some(id) => Some(RequestKey { id: id.clone(), hash: hash_of(request)? }),
            None => None,
        };
        let is_stateless = request.thread_id.is_none();
        let new = NewRun {
            id: request.run_id,
            thread: match (&thread, request.thread_id) {
                (Some(thread), _) => RunThread::Existing(thread.id),
                (None, id) => RunThread::Create(NewThread {
                    id,
                    if_exists: IfExists::Keep,
                    metadata: {
                        let mut metadata = thread_metadata(&assistant.id.to_string(), &served.name);
                        request
                            .thread_metadata
                            .iter()
                            .for_each(|(key, value)| metadata.insert(key.clone(), value.clone()));
                        metadata
                    },
                    stateless: is_stateless,
                    expiry: None,
                }),
            },
            assistant: Some(assistant.id),
            graph: served.name.to_string(),
            revision: served.revision.to_string(),
            multitask: request.multitask,
            start_at: request.start_time,
            request: stored.to_value()?,
            request_key,
            stateless: is_stateless,
        };
        Ok(Prepared { new, mark, spec: stored.spec })
    }

    async fn make_run(&self, prepared: Prepared, is_read: bool) -> Result<Made> {
        let Prepared { new, mark, spec } = prepared;
        let (made, ()) = tokio::join!(self.inner.store.create_run(self.tenant(), new), self.mark_thread(mark));
        let made = made?;
        let run = made.run;
        let mut reading = None;
        if made.new {
            // Before the run is watched, so that the reader is never missed.
            if is_read && spec.delivery.cancel_on_disconnect {
                reading = Some(self.inner.runner.logs.open(run.id).reading());
            }
            self.begin_made(&run, &spec).await;
        } else {
            self.begin_in_time(&run);
        }
        Ok(Made { run, is_new: made.new, reading })
    }

    /// Notes on a thread of which graph it is.
    pub(crate) async fn mark_thread(&self, mark: Option<(ThreadId, ThreadUpdate)>) {
        let Some((thread, mark)) = mark else { return };
        if let Err(error) = self.inner.store.update_thread(self.tenant(), thread, mark).await {
            tracing::warn!(%thread, %error, "cannot note a thread's graph");
        }
    }

    /// Has a run begin that was made just now.
    pub(crate) async fn begin_made(&self, run: &Run, spec: &RunSpec) {
        if let Err(error) = self.cancel_predecessors(run).await {
            tracing::warn!(run = %run.id, %error, "cannot cancel the runs before a new one; it waits for them");
        }
        if spec.delivery.cancel_on_disconnect {
            self.watch_readers(self.inner.runner.logs.open(run.id), spec.delivery.grace());
        }
        self.begin_in_time(run);
    }

    /// Has a run begin: now, or at its time. Asking again does no harm.
    fn begin_in_time(&self, run: &Run) {
        match run.start_at {
            _ if run.status.is_end() => {}
            Some(at) if at > self.inner.clock.now() => {}
            _ => self.wake_thread(run.thread),
        }
    }

    /// The run that the same request made before, if one did. It is looked for before the request is checked: what has
    /// changed since must not refuse what was accepted.
    async fn made_before(&self, request: &RunRequest) -> Result<Option<Run>> {
        let Some(id) = &request.request_id else { return Ok(None) };
        let Some(run) = self.inner.store.find_request(self.tenant(), id).await? else { return Ok(None) };
        let hash = hash_of(request)?;
        if run.request_key.as_ref().is_none_or(|key| !is_same(&key.hash, &hash)) {
            return Err(runloom_store::Error::RequestReused { request_id: id.clone(), run: run.id }.into());
        }
        self.begin_in_time(&run);
        Ok(Some(run))
    }

    /// A run.
    pub async fn get_run(&self, id: RunId) -> Result<Run> {
        Ok(self.inner.store.get_run(self.tenant(), id).await?)
    }

    /// Runs by filter, the newest first, a page at a time.
    pub async fn list_runs(&self, filter: RunFilter, page: PageRequest) -> Result<Page<Run>> {
        Ok(self.inner.store.list_runs(self.tenant(), filter, runloom_store::Direction::Descending, page).await?)
    }

    /// Deletes a run that is over, or that waits, with its log. Its checkpoints stay.
    pub async fn delete_run(&self, id: RunId) -> Result<()> {
        self.inner.store.delete_run(self.tenant(), id).await?;
        if let Some(live) = self.inner.runner.logs.get(id) {
            live.gone();
        }
        self.inner.runner.logs.close(id);
        Ok(())
    }

    /// Waits for a run's end.
    pub async fn wait_run(&self, id: RunId) -> Result<Outcome> {
        use futures_util::StreamExt;
        let options = ReadOptions { modes: Some(runloom_engine::stream::Modes::NONE), ..ReadOptions::default() };
        let before = self.inner.store.get_run(self.tenant(), id).await?;
        let mut end = None;
        match self.read_run(id, options).await {
            Ok(mut reader) => {
                while let Some(record) = reader.next().await {
                    if let Body::End(e) = &record?.body {
                        end = Some(End::clone(e));
                    }
                }
            }
            // The run itself still says how it ended.
            Err(error) if error.reason == Reason::CursorExpired => {}
            Err(error) => return Err(error),
        }
        let end = match end {
            Some(end) => end,
            None => End::stored(&before)?,
        };
        let run = match self.rolled_back(&before).await {
            Ok(run) => run,
            // Rolled back: as it was last.
            Err(runloom_store::Error::NotFound { .. }) => Run { status: end.status, ..before },
            Err(error) => return Err(error.into()),
        };
        Ok(Outcome { run, end })
    }

    /// A run that has ended: where it is to be rolled back, once that is done. Its end is on disk before.
    async fn rolled_back(&self, run: &Run) -> runloom_store::Result<Run> {
        let store = &self.inner.store;
        let mut hints = store.watch(Topic::Thread(run.thread));
        let until = tokio::time::Instant::now() + ROLLBACK;
        loop {
            let now = store.get_run(self.tenant(), run.id).await?;
            let is_rollback = now.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
            // A rollback that fails is finished later.
            if !is_rollback || tokio::time::timeout_at(until, hints.changed()).await.is_err() {
                return Ok(now);
            }
        }
    }

    /// What is needed to read and write a run's log.
    pub(crate) async fn codec_of(&self, run: &Run, options: &RunOptions) -> Result<Codec> {
        let served = self.inner.registry.revision(&run.graph, &run.revision, &self.inner.store).await;
        let inline = options.durability == "exit" || served.as_ref().is_some_and(|s| s.graph.has_untracked());
        Ok(Codec {
            run: run.id,
            thread: run.thread,
            graph: served.map(|s| s.graph.clone()),
            metadata: engine_metadata(run, options),
            tags: options.tags.iter().map(|t| Arc::from(t.as_str())).collect(),
            inline,
            reader: self.inner.store.checkpointer_by_hand(self.tenant(), None),
            cache: Arc::default(),
        })
    }
}

/// The metadata of a run as the engine has it, and its checkpoints and events with it.
pub(crate) fn engine_metadata(run: &Run, options: &RunOptions) -> Object {
    let mut metadata = options.metadata.clone();
    if let Some(assistant) = run.assistant {
        metadata.insert("assistant_id", assistant.to_string());
    }
    metadata.insert("graph_id", run.graph.as_str());
    metadata.insert("run_id", run.id.to_string());
    metadata.insert("thread_id", run.thread.to_string());
    if let Some(checkpoint) = options.checkpoint_id {
        metadata.insert("checkpoint_id", checkpoint.to_string());
    }
    metadata
}

/// Whether a thread says of which graph and assistant it is.
fn is_marked(thread: &Thread, assistant: &str, graph: &str) -> bool {
    let has = |key: &str, value: &str| thread.metadata.get_str(key) == Some(value);
    has("graph_id", graph) && has("assistant_id", assistant)
}

fn thread_metadata(assistant: &str, graph: &str) -> Object {
    [("graph_id", Value::from(graph)), ("assistant_id", Value::from(assistant))].into_iter().collect()
}

/// The nodes that a request names, each by the field it came in.
fn named_nodes(spec: &RunSpec) -> Vec<(String, &str)> {
    let list = |field: &'static str, names: &'static dyn Fn(&RunSpec) -> &Vec<String>| {
        names(spec).iter().enumerate().map(move |(i, n)| (format!("{field}[{i}]"), n.as_str()))
    };
    let mut all: Vec<(String, &str)> = list("interrupt_before", &|s| &s.options.interrupt_before)
        .chain(list("interrupt_after", &|s| &s.options.interrupt_after))
        .filter(|(_, name)| *name != "*")
        .collect();
    if let Start::Command(command) = &spec.options.start {
        let goto = command.goto.iter().enumerate().map(|(i, (node, _))| (format!("command.goto[{i}].node"), &**node));
        all.extend(goto.filter(|(_, name)| !["__end__", "END"].contains(name)));
    }
    all
}

/// What is wrong with a request whatever its graph.
fn check_shape(request: &RunRequest) -> Result<()> {
    let stateless = request.thread_id.is_none();
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut wrong = |path: &str, what: &str| fields.push((path.to_owned(), what.to_owned()));
    match &request.spec.options.start {
        Start::Command(_) if stateless => {
            wrong("command", "a stateless run has nothing to resume; name the thread");
        }
        Start::Command(c) if c.resume.is_some() && !c.resume_by_id.is_empty() => {
            wrong("command", "has both one answer and answers by question id; give one of them");
        }
        Start::Resume if stateless && request.spec.options.strict => wrong("input", "a stateless run needs an input"),
        _ => {}
    }
    if stateless && request.spec.options.checkpoint_id.is_some() {
        wrong("checkpoint_id", "a stateless run has no checkpoints; name the thread");
    }
    let options = &request.spec.options;
    if !options.checkpoint_namespace.is_empty() {
        match (&options.start, options.checkpoint_id) {
            (_, None) => wrong("checkpoint_id", "missing: the checkpoint in the namespace to start from"),
            (Start::Resume, _) => {}
            _ => wrong(
                "checkpoint_namespace",
                "a run from a checkpoint of a subgraph takes no input and no command; run from there, then answer",
            ),
        }
    }
    if request.request_id.as_ref().is_some_and(|id| id.len() > 128) {
        wrong("request_id", "is longer than 128 characters");
    }
    match fields.first() {
        None => Ok(()),
        Some((path, what)) => {
            let message = format!("{path}: {what}");
            Err(Error { fields, ..Error::new(Reason::FieldInvalid, message) })
        }
    }
}
