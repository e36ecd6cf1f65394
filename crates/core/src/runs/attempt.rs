//! One attempt at a run: the engine is pulled, what it tells is numbered and logged, and its end is kept.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use runloom_engine::{
    Error as EngineError, Object, RunConfig, Runtime, Value,
    checkpoint::{CheckpointView, Durability},
    model::Usage,
    stream::{Part, Payload},
};
use runloom_store::{Attempt, Begun, CancelAction, Run, RunEnd, RunStatus, Thread, ThreadStatus, ThreadUpdate};
use tokio_util::sync::CancellationToken;

use super::{cancel::cancelled, coalesce::Coalesce, create::engine_metadata, request::RunSpec, runner::Active};
use crate::{
    Core, Error, Reason, Result,
    graphs::Served,
    log::{Body, End, LogWriter, Opening, Origin},
};

/// How an attempt came out.
enum Came {
    /// The run is over.
    Ended(Box<End>, Option<runloom_engine::stream::SnapshotRef>),
    /// The core drains: the run is given back, with what it has used so far.
    GivenBack(Usage),
}

/// After how many parts in a row a run that never waits gives way to its readers. Turns cost more than parts do.
const TURN: usize = 512;

impl Core {
    /// Makes one attempt at a run.
    pub(super) async fn attempt(&self, run: Run) -> Result<()> {
        let spec = RunSpec::of(&run);
        // Held before anything is told, so that readers find it.
        let live = self.inner.runner.logs.open(run.id);
        let was_running = run.status == RunStatus::Running;
        let config = thread_config(&spec);
        let Begun { run: now, attempt, first_seq, reserved } =
            match self.inner.store.begin_attempt(run.current(), config, LogWriter::RESERVE).await {
                Ok(begun) => begun,
                // Somebody else has it, or it is over, or gone: nothing to do here.
                Err(
                    runloom_store::Error::Superseded { .. }
                    | runloom_store::Error::RunState { .. }
                    | runloom_store::Error::NotFound { .. },
                ) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        let stop = CancellationToken::new();
        self.inner.runner.activate(now.id, Active { attempt: attempt.number, stop: stop.clone() });
        // Asked for between the look and the beginning, when nobody could be told.
        let now = match self.inner.store.get_run(now.id).await {
            Ok(latest) if latest.cancel.is_some() => {
                stop.cancel();
                latest
            }
            _ => now,
        };
        let codec = self.codec_of(&now).await?;
        let numbers = (first_seq, reserved);
        let mut log =
            LogWriter::new(live.clone(), self.inner.store.clone(), attempt, codec, self.inner.clock.clone(), numbers);
        log.used = self.used_before(&now, was_running).await;
        if spec.cancel_on_disconnect {
            if attempt.number > 1 {
                live.cut_off();
            }
            self.watch_readers(live.clone(), spec.grace());
        }
        self.inner.runner.logs.moved(now.thread);
        let driven = AssertUnwindSafe(self.drive(&now, &spec, attempt, was_running, &stop, &mut log));
        let result = match driven.catch_unwind().await {
            Ok(result) => result,
            Err(_) => {
                // A reducer, or anything else that is not a node, panicked: the run fails, the thread goes on.
                let text =
                    "the run ended in a panic outside its nodes, in a reducer or a policy; the server's log has it";
                let end = failed(Error::new(Reason::Internal, text), log.used);
                self.finish(&now, end, None, attempt, &mut log).await
            }
        };
        self.inner.runner.deactivate(now.id);
        if result.is_err() {
            // Who waits for a run to be taken back looks again: it was not.
            self.inner.runner.logs.moved(now.thread);
        }
        match result {
            Err(error) if error.reason == Reason::RunActive || error.reason == Reason::RunNotFound => {
                // Superseded or deleted: whoever did it tells its readers.
                tracing::info!(run = %now.id, %error, "an attempt lost its run");
                if self.inner.store.get_run(now.id).await.is_err() {
                    live.gone();
                }
                Ok(())
            }
            Err(error) => {
                // The store failed: the run stays running, and is taken up again when writes work.
                self.inner.runner.orphan(now.thread);
                self.inner.runner.excuse(now.id);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn drive(
        &self,
        run: &Run,
        spec: &RunSpec,
        attempt: Attempt,
        was_running: bool,
        stop: &CancellationToken,
        log: &mut LogWriter,
    ) -> Result<()> {
        let opening = Opening {
            thread_id: run.thread,
            assistant_id: run.assistant,
            graph: run.graph.clone(),
            revision: run.revision.clone(),
            status: RunStatus::Running,
            modes: spec.modes(),
            subgraphs: spec.subgraphs,
        };
        log.push(Origin::default(), opening.into()).await?;
        log.flush().await?;
        let thread = self.inner.store.get_thread(run.thread).await?;
        let served = self.inner.registry.revision(&run.graph, &run.revision, &self.inner.store).await;
        let used = log.used;
        let came = match served {
            _ if was_running && self.inner.runner.counted(run) > self.inner.options.max_attempts => {
                let crashes = self.inner.runner.counted(run) - 1;
                let text = format!(
                    "the run took its server down {crashes} times and is not tried again; look at what its nodes do"
                );
                let error = Error::new(Reason::AttemptsExhausted, text).with("attempts", crashes);
                Came::Ended(Box::new(failed(error, used)), None)
            }
            None => {
                let text = format!("graph `{}` at revision {} is not served any more", run.graph, run.revision);
                Came::Ended(Box::new(failed(Error::new(Reason::GraphUnknown, text), used)), None)
            }
            Some(_) if let Some(error) = self.is_elsewhere(run, spec, attempt).await? => {
                Came::Ended(Box::new(failed(error, used)), None)
            }
            Some(served) => self.run_graph(run, spec, &thread, &served, attempt, stop, log).await?,
        };
        match came {
            Came::GivenBack(used) => {
                log.flush().await?;
                log.settle().await?;
                self.inner.store.release_run(attempt, runloom_engine::to_value(&used).ok()).await?;
                Ok(())
            }
            Came::Ended(end, state) => self.finish(run, *end, state, attempt, log).await,
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn run_graph(
        &self,
        run: &Run,
        spec: &RunSpec,
        thread: &Thread,
        served: &Served,
        attempt: Attempt,
        stop: &CancellationToken,
        log: &mut LogWriter,
    ) -> Result<Came> {
        let graph = served.graph.with_runtime(Runtime {
            checkpointer: Some(self.inner.store.checkpointer(attempt)),
            items: Some(self.inner.items.clone()),
            cache: Some(self.inner.store.node_cache()),
            clock: self.inner.clock.clone(),
        });
        let config = RunConfig {
            cancel: stop.clone(),
            timeout: self.time_limit(spec),
            elapsed: self.time_gone(run),
            metadata: engine_metadata(run, spec),
            ..spec.config(thread, run.id, attempt.number, self.inner.options.recursion_limit)?
        };
        let is_sync = config.durability == Durability::Sync;
        let mut stream = graph.stream(spec.input(), config);
        let mut coalesce = Coalesce::new(spec);
        let mut told = 0_usize;
        let before = log.used;
        loop {
            // What comes at once is kept in one row; before anything is waited for, it is on its way.
            let next = match stream.next().now_or_never() {
                Some(next) => next,
                None => {
                    log.used = before;
                    log.used += stream.usage();
                    log.flush().await?;
                    match coalesce.due() {
                        None => stream.next().await,
                        Some(due) => match tokio::time::timeout_at(due, stream.next()).await {
                            Ok(next) => next,
                            Err(_) => {
                                for part in coalesce.take() {
                                    tell(log, part, false, false).await?;
                                }
                                continue;
                            }
                        },
                    }
                }
            };
            let Some(part) = next else { break };
            told += 1;
            if told.is_multiple_of(TURN) {
                give_way().await;
            }
            if !coalesce.is_on() {
                tell(log, part, is_sync, stream.has_ready()).await?;
                continue;
            }
            for part in coalesce.add(part) {
                tell(log, part, is_sync, false).await?;
            }
        }
        for part in coalesce.take() {
            tell(log, part, false, false).await?;
        }
        let mut total = before;
        total += stream.usage();
        log.used = total;
        let end = |status, error| End {
            status,
            error,
            usage: total,
            interrupts: Vec::new(),
            cancellation: None,
            checkpoint_id: None,
            values: None,
        };
        Ok(match stream.finished() {
            Some(Ok(finished)) => {
                let status = if finished.is_interrupted { RunStatus::AwaitingInput } else { RunStatus::Succeeded };
                let end = End {
                    interrupts: finished.interrupts,
                    values: Some(Value::Object(finished.values)),
                    ..end(status, None)
                };
                Came::Ended(Box::new(end), Some(finished.state))
            }
            // A node gave itself up, and nobody had asked for it.
            Some(Err(error @ EngineError::Cancelled { .. })) if !stop.is_cancelled() => {
                Came::Ended(Box::new(end(RunStatus::Failed, Some(error.into()))), None)
            }
            Some(Err(EngineError::Cancelled { .. })) | None => {
                let latest = self.inner.store.get_run(run.id).await?;
                if latest.cancel.is_none() {
                    // Nobody asked for its end: the core stopped it to drain.
                    return Ok(Came::GivenBack(total));
                }
                Came::Ended(Box::new(cancelled(&latest, total)), None)
            }
            Some(Err(EngineError::Checkpointer { error: runloom_engine::CheckpointError::Superseded, .. })) => {
                return Err(Error::new(Reason::RunActive, "another attempt has the run"));
            }
            Some(Err(error @ EngineError::Checkpointer { .. })) => return Err(error.into()),
            Some(Err(error @ EngineError::RunTimeout { .. })) => {
                Came::Ended(Box::new(end(RunStatus::TimedOut, Some(error.into()))), None)
            }
            Some(Err(error)) => Came::Ended(Box::new(end(RunStatus::Failed, Some(error.into()))), None),
        })
    }

    /// Whether the thread stands elsewhere than the run's command expects, now that the run begins.
    async fn is_elsewhere(&self, run: &Run, spec: &RunSpec, attempt: Attempt) -> Result<Option<Error>> {
        let (Some(expected), 1) = (spec.expected_checkpoint_id, attempt.number) else { return Ok(None) };
        let latest = self.saved(run.thread, None).await?;
        Ok(crate::state::check_expected(run.thread, expected, latest.map(|l| l.checkpoint.id)).err())
    }

    /// The longest the run may take.
    fn time_limit(&self, spec: &RunSpec) -> Option<Duration> {
        match spec.run_timeout_ms {
            0 => self.inner.options.run_timeout,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// How long it has been since the run's first attempt began.
    fn time_gone(&self, run: &Run) -> Duration {
        run.started_at.and_then(|at| self.inner.clock.now().duration_since(at).ok()).unwrap_or_default()
    }

    /// Keeps the run's end, and shows it once it is on disk.
    async fn finish(
        &self,
        run: &Run,
        end: End,
        state: Option<runloom_engine::stream::SnapshotRef>,
        attempt: Attempt,
        log: &mut LogWriter,
    ) -> Result<()> {
        let latest = self.inner.store.get_run(run.id).await?;
        let is_rollback = latest.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
        log.flush().await?;
        log.settle().await?;
        let (mut end, state) = if is_rollback { (cancelled(&latest, end.usage), None) } else { (end, state) };
        if let Some(error) = &mut end.error {
            self.place(run, error).await;
        }
        let thread = if is_rollback { ThreadUpdate::default() } else { self.thread_after(run, &mut end).await };
        let (status, usage) = (end.status, runloom_engine::to_value(&end.usage).ok());
        let error = end.error.as_ref().map(Error::to_value);
        let delivery = self.delivery(run, &RunSpec::of(run), &end).await;
        let is_posted = delivery.is_some();
        let origin = Origin { base: state, ..Origin::default() };
        let (record, records) = log.last(origin, end.into()).await?;
        let expires_at = run.stateless.then(|| self.inner.clock.now() + self.inner.options.stateless_ttl);
        let kept = RunEnd { status, error, usage, expires_at, records, thread, delivery };
        let ended = self.inner.store.finish_run(attempt, kept).await?;
        // Who sees the end finds the thread as it was, and writes to it without being written over.
        let restored = if is_rollback { self.take_back(&ended).await } else { Ok(()) };
        if is_posted {
            self.inner.post.filled();
        }
        if self.inner.overdue.lock().remove(&run.thread) {
            self.inner.expiring.notify_one();
        }
        log.shown(record);
        self.inner.runner.logs.close(run.id);
        self.inner.runner.logs.moved(run.thread);
        self.inner.runner.over(run.id);
        if !is_rollback {
            let revision: Arc<str> = run.revision.as_str().into();
            self.inner.runner.fits.lock().put(run.thread, revision);
        }
        restored
    }

    /// What the thread is after the run: what stands open on it, and what its users see.
    pub(super) async fn thread_after(&self, run: &Run, end: &mut End) -> ThreadUpdate {
        let view = match self.view_of_thread(run, false).await {
            Ok(view) => Some(view),
            Err(error) => {
                tracing::warn!(thread = %run.thread, %error, "cannot look at the thread after its run");
                None
            }
        };
        end.checkpoint_id = view.as_ref().and_then(|v| v.config.as_ref()?.id);
        let pending = view.as_ref().is_some_and(|v| !v.next.is_empty());
        let status = match end.status {
            RunStatus::Failed | RunStatus::TimedOut => ThreadStatus::Error,
            RunStatus::AwaitingInput => ThreadStatus::Interrupted,
            _ if pending => ThreadStatus::Interrupted,
            _ => ThreadStatus::Idle,
        };
        ThreadUpdate {
            status: Some(status),
            error: Some(end.error.as_ref().map_or(Value::Null, Error::to_value)),
            interrupts: Some(view.map_or(Value::Null, |v| open_questions(&v))),
            state_changed: true,
            ..ThreadUpdate::default()
        }
    }

    /// Where in its graphs a task failed: its id and namespace, the innermost that is known.
    async fn place(&self, run: &Run, error: &mut Error) {
        if !matches!(error.reason, Reason::NodeFailed | Reason::NodeTimeout) {
            return;
        }
        let Ok(view) = self.view_of_thread(run, true).await else { return };
        if let Some((task, namespace)) = failed_task(&view) {
            error.metadata.insert("task_id", task);
            error.metadata.insert("namespace", namespace);
        }
    }

    pub(crate) async fn view_of_thread(&self, run: &Run, subgraphs: bool) -> Result<CheckpointView> {
        let served = self.inner.registry.revision(&run.graph, &run.revision, &self.inner.store).await;
        let served = served.ok_or_else(|| Error::new(Reason::GraphUnknown, "the graph is not served any more"))?;
        let graph = served.graph.with_checkpointer(self.inner.store.checkpointer_by_hand());
        Ok(crate::state::latest_state(&graph, run.thread, "", subgraphs).await?)
    }
}

/// The open questions of a thread by task id: `{task_id: [{value, id}]}`.
pub(crate) fn open_questions(view: &CheckpointView) -> Value {
    let by_task = view.tasks.iter().filter(|t| !t.interrupts.is_empty()).map(|t| {
        let questions: Vec<Value> = t.interrupts.iter().map(runloom_engine::stream::Interrupt::to_value).collect();
        (t.id.to_string(), Value::from(questions))
    });
    Value::Object(by_task.collect::<Object>())
}

/// The task that failed, and the namespace it is in.
fn failed_task(view: &CheckpointView) -> Option<(String, String)> {
    let task = view.tasks.iter().find(|task| task.error.is_some())?;
    let within = task.state.as_ref().and_then(|state| failed_task(state));
    within.or_else(|| Some((task.id.to_string(), view.config.as_ref()?.ns.to_string())))
}

fn failed(error: Error, usage: Usage) -> End {
    End {
        status: RunStatus::Failed,
        error: Some(error),
        usage,
        interrupts: Vec::new(),
        cancellation: None,
        checkpoint_id: None,
        values: None,
    }
}

/// What a thread notes of the configuration of its last run.
pub(super) fn thread_config(spec: &RunSpec) -> Object {
    let mut config = Object::default();
    config.insert("configurable", spec.configurable.clone());
    if spec.recursion_limit > 0 {
        config.insert("recursion_limit", u64::from(spec.recursion_limit));
    }
    if !spec.tags.is_empty() {
        config.insert("tags", spec.tags.clone());
    }
    config
}

/// Lets what waits on this thread have its turn: the readers that a run woke are in line behind it. The run itself is in line
/// at once, for any thread that has nothing to do; tokio's `yield_now` would keep it back until this one has.
async fn give_way() {
    let mut is_back = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut is_back, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Numbers a part and shows it; `more` says that others follow at once. With durability `sync`, updates and values wait for
/// the disk.
async fn tell(log: &mut LogWriter, part: Part, is_sync: bool, more: bool) -> Result<()> {
    let (origin, payload) = Origin::of(part);
    let waits = is_sync && matches!(payload, Payload::Update(_) | Payload::Values(_));
    let body = Body::Part(payload);
    match (waits, more) {
        (true, _) => log.push_durable(origin, body).await,
        (false, true) => log.push_one_of_many(origin, body).await,
        (false, false) => log.push(origin, body).await,
    }
}
