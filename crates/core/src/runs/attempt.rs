//! One attempt at a run: the engine is pulled, what it tells is numbered and logged, and its end is kept.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, StreamExt};
use runloom_engine::{
    Error as EngineError, Object, RunConfig, Runtime, Value,
    checkpoint::Durability,
    model::Usage,
    stream::{Part, Payload},
};
use runloom_store::{Attempt, Begun, Run, RunStatus, Thread};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    cancel::cancelled,
    coalesce::Coalesce,
    create::engine_metadata,
    observe,
    request::{RunOptions, StoredRequest},
    runner::{Active, counted_attempts},
};
use crate::{
    Error, Reason, Result, Session,
    graphs::Served,
    log::{Body, End, LogWriter, Opening, Origin},
};

/// How an attempt came out.
enum AttemptOutcome {
    /// The run is over.
    Ended(Box<End>, Option<runloom_engine::stream::SnapshotRef>),
    /// The core drains: the run is given back, with what it has used so far.
    GivenBack(Usage),
}

/// What an attempt works on.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub run: &'a Run,
    pub request: &'a StoredRequest,
    pub attempt: Attempt,
    /// Stops the engine.
    pub stop: &'a CancellationToken,
}

/// What came of an attempt.
pub(super) enum Attempted {
    /// The run has ended, was given back, or is another server's.
    Done,
    /// Another run of the thread is running, on another server.
    Blocked,
}

/// An attempt that the store's failure ended, and what it holds.
pub(super) struct Stopped {
    pub error: Error,
    /// The attempt that has the run still, and what it had used.
    pub held: Option<(Attempt, Usage)>,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self { error, held: None }
    }
}

/// After how many parts in a row a run that never waits gives way to its readers.
const TURN: usize = 512;

impl Session {
    /// Makes one attempt at a run.
    pub(super) async fn attempt(&self, run: Run) -> Result<Attempted, Stopped> {
        // Parsed here and nowhere else in this attempt. A run whose request cannot be read begins, to fail with the reason.
        let (request, mut unreadable) = match StoredRequest::of(&run) {
            Ok(request) => (request, None),
            Err(error) => (StoredRequest::default(), Some(error)),
        };
        let spec = &request.spec;
        // Held before anything is told, so that readers find it.
        let live = self.inner.runner.logs.open(run.id);
        let was_running = run.status == RunStatus::Running;
        if was_running && counted_attempts(&run) >= self.inner.options.max_attempts {
            return self.exhaust(&run, &request).await.map(|()| Attempted::Done).map_err(Stopped::from);
        }
        let config = thread_config(&spec.options);
        let server = self.inner.runner.lease.server();
        let Begun { run: now, attempt, first_seq, reserved } =
            match self.inner.store.begin_attempt(run.current(), server, config, LogWriter::RESERVE).await {
                Ok(begun) => begun,
                // Somebody else has it, or it is over, or gone: nothing to do here.
                Err(
                    runloom_store::Error::Superseded { .. }
                    | runloom_store::Error::RunState { .. }
                    | runloom_store::Error::NotFound { .. },
                ) => return Ok(Attempted::Done),
                Err(runloom_store::Error::Busy { .. }) => return Ok(Attempted::Blocked),
                Err(error) => return Err(Error::from(error).into()),
            };
        let stop = CancellationToken::new();
        let driven = self.inner.runner.activate(now.id, Active { attempt: attempt.number, stop: stop.clone() });
        // Asked for between the look and the beginning, when nobody could be told.
        let now = match self.inner.store.get_run(self.tenant(), now.id).await {
            Ok(latest) if latest.cancel.is_some() => {
                stop.cancel();
                latest
            }
            _ => now,
        };
        let held = |error, used| Stopped { error, held: Some((attempt, used)) };
        let codec = match self.codec_of(&now, &spec.options).await {
            Ok(codec) => codec,
            Err(error) => return Err(held(error, Usage::default())),
        };
        let numbers = (first_seq, reserved);
        let counted = self.count_events(&now, attempt.number.saturating_sub(1), spec, &codec).await;
        let mut log =
            LogWriter::new(live.clone(), self.inner.store.clone(), attempt, codec, self.inner.clock.clone(), numbers);
        log.count_from(counted);
        match self.used_before(&now, was_running).await {
            Ok(used) => log.used = used,
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
        if spec.delivery.cancel_on_disconnect {
            if attempt.number > 1 {
                live.cut_off();
            }
            self.watch_readers(live.clone(), spec.delivery.grace());
        }
        observe::begun(&now, self.inner.clock.now());
        let span = observe::span(&now, attempt.number, &request.marks.trace);
        let work = Work { run: &now, request: &request, attempt, stop: &stop };
        let outcome = self.drive(&work, unreadable, &mut log).instrument(span);
        // What is logged meanwhile, by whomever, tells of which run it is.
        let of = tracing::info_span!("run", run = %now.id, thread = %now.thread);
        let outcome = AssertUnwindSafe(outcome.instrument(of));
        let result = match outcome.catch_unwind().await {
            Ok(result) => result,
            Err(_) => {
                // A reducer, or anything else that is not a node, panicked: the run fails, the thread goes on.
                let text =
                    "the run ended in a panic outside its nodes, in a reducer or a policy; the server's log has it";
                let end = failed(Error::new(Reason::Internal, text), log.used);
                self.finish(&work, end, None, &mut log).await
            }
        };
        drop(driven);
        match result {
            Err(error) if error.reason == Reason::RunActive || error.reason == Reason::RunNotFound => {
                // Superseded or deleted: whoever did it tells its readers.
                tracing::info!(run = %now.id, %error, "an attempt lost its run");
                if self.inner.store.get_run(self.tenant(), now.id).await.is_err() {
                    live.gone();
                }
                Ok(Attempted::Done)
            }
            // The store failed: the run stays running until writes work, and is given back then.
            Err(error) => Err(held(error, log.used)),
            Ok(()) => Ok(Attempted::Done),
        }
    }

    /// Ends a run that took its server down too often.
    async fn exhaust(&self, run: &Run, request: &StoredRequest) -> Result<()> {
        let crashes = counted_attempts(run);
        let text =
            format!("the run took its server down {crashes} times and is not tried again; look at what its nodes do");
        let error = Error::new(Reason::AttemptsExhausted, text).with("attempts", crashes);
        let end = match self.used_before(run, true).await {
            Ok(used) => failed(error, used),
            Err(unreadable) => failed(unreadable, Usage::default()),
        };
        match self.finish_without_attempt(run, request, end).await {
            Ok(_) => Ok(()),
            // Another server was faster.
            Err(error) if matches!(error.reason, Reason::RunActive | Reason::RunNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn drive(&self, work: &Work<'_>, unreadable: Option<Error>, log: &mut LogWriter) -> Result<()> {
        let Work { run, request, attempt, .. } = *work;
        let spec = &request.spec;
        let opening = Opening {
            thread_id: run.thread,
            assistant_id: run.assistant,
            graph: run.graph.clone(),
            revision: run.revision.clone(),
            status: RunStatus::Running,
            modes: spec.recording.modes(),
            subgraphs: spec.recording.subgraphs,
        };
        log.push(Origin::default(), opening.into()).await?;
        log.flush().await?;
        let thread = self.inner.store.get_thread(self.tenant(), run.thread).await?;
        let served = self.inner.registry.revision(&run.graph, &run.revision, &self.inner.store).await;
        let used = log.used;
        let outcome = match served {
            _ if let Some(error) = unreadable => AttemptOutcome::Ended(Box::new(failed(error, used)), None),
            None => {
                let text = format!("graph `{}` at revision {} is not served any more", run.graph, run.revision);
                AttemptOutcome::Ended(Box::new(failed(Error::new(Reason::GraphUnknown, text), used)), None)
            }
            Some(_) if let Some(error) = self.check_expected_checkpoint(work).await? => {
                AttemptOutcome::Ended(Box::new(failed(error, used)), None)
            }
            Some(served) => self.run_graph(work, &thread, &served, log).await?,
        };
        match outcome {
            AttemptOutcome::GivenBack(used) => {
                log.flush().await?;
                log.settle().await?;
                self.inner.store.release_run(attempt, runloom_engine::to_value(&used).ok()).await?;
                Ok(())
            }
            AttemptOutcome::Ended(end, state) => self.finish(work, *end, state, log).await,
        }
    }

    async fn run_graph(
        &self,
        work: &Work<'_>,
        thread: &Thread,
        served: &Served,
        log: &mut LogWriter,
    ) -> Result<AttemptOutcome> {
        let Work { run, request, attempt, stop, .. } = *work;
        let spec = &request.spec;
        let graph = served.graph.with_runtime(Runtime {
            checkpointer: Some(self.inner.store.checkpointer(self.tenant(), attempt)),
            items: Some(self.inner.store.items(self.tenant())),
            cache: Some(self.inner.store.node_cache(self.tenant())),
            clock: self.inner.clock.clone(),
            check_answer: Some(crate::graphs::check::check_answer),
        });
        let config = RunConfig {
            cancel: stop.clone(),
            timeout: self.time_limit(&spec.options),
            elapsed: self.time_gone(run),
            metadata: engine_metadata(run, &spec.options),
            thread_id: Some(thread.id),
            run_id: Some(run.id),
            attempt: attempt.number,
            limits: self.inner.options.run_limits,
            ..spec.options.config(&spec.recording, self.inner.options.recursion_limit)?
        };
        let is_sync = config.durability == Durability::Sync;
        let mut stream = graph.stream(spec.options.input(), config);
        let mut coalesce = Coalesce::new(&spec.recording);
        let mut told = 0_usize;
        let mut has_token = attempt.number > 1;
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
                        None => log.settle_while(stream.next()).await,
                        Some(due) => match log.settle_while(tokio::time::timeout_at(due, stream.next())).await {
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
            if !has_token && matches!(part.payload, Payload::Message(_)) {
                has_token = true;
                observe::first_token(run, self.inner.clock.now());
            }
            if told.is_multiple_of(TURN) {
                yield_turn().await;
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
                AttemptOutcome::Ended(Box::new(end), Some(finished.state))
            }
            // A node gave itself up, and nobody had asked for it.
            Some(Err(error @ EngineError::Cancelled { .. })) if !stop.is_cancelled() => {
                AttemptOutcome::Ended(Box::new(end(RunStatus::Failed, Some(error.into()))), None)
            }
            Some(Err(EngineError::Cancelled { .. })) | None => {
                let latest = self.inner.store.get_run(self.tenant(), run.id).await?;
                if latest.cancel.is_none() {
                    // Nobody asked for its end: the core stopped it to drain.
                    return Ok(AttemptOutcome::GivenBack(total));
                }
                AttemptOutcome::Ended(Box::new(cancelled(&latest, total)), None)
            }
            Some(Err(EngineError::Checkpointer { error: runloom_engine::CheckpointError::Superseded, .. })) => {
                return Err(Error::new(Reason::RunActive, "another attempt has the run"));
            }
            Some(Err(error @ EngineError::Checkpointer { .. })) => return Err(error.into()),
            Some(Err(error @ EngineError::RunTimeout { .. })) => {
                AttemptOutcome::Ended(Box::new(end(RunStatus::TimedOut, Some(error.into()))), None)
            }
            Some(Err(error)) => AttemptOutcome::Ended(Box::new(end(RunStatus::Failed, Some(error.into()))), None),
        })
    }

    /// Whether the thread stands elsewhere than the run's command expects, now that the run begins.
    async fn check_expected_checkpoint(&self, work: &Work<'_>) -> Result<Option<Error>> {
        let run = work.run;
        let (Some(expected), 1) = (work.request.marks.expected_checkpoint_id, work.attempt.number) else {
            return Ok(None);
        };
        let latest = self.saved(run.thread, None).await?;
        Ok(crate::state::check_expected(run.thread, expected, latest.map(|l| l.checkpoint.id)).err())
    }

    /// The longest the run may take.
    fn time_limit(&self, options: &RunOptions) -> Option<Duration> {
        match options.run_timeout_ms {
            0 => self.inner.options.run_timeout,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// How long it has been since the run's first attempt began.
    fn time_gone(&self, run: &Run) -> Duration {
        run.started_at.and_then(|at| self.inner.clock.now().duration_since(at).ok()).unwrap_or_default()
    }
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
pub(super) fn thread_config(options: &RunOptions) -> Object {
    let mut config = Object::default();
    config.insert("configurable", options.configurable.clone());
    if options.recursion_limit > 0 {
        config.insert("recursion_limit", u64::from(options.recursion_limit));
    }
    if !options.tags.is_empty() {
        config.insert("tags", options.tags.clone());
    }
    config
}

/// Lets what waits on this thread have its turn: the readers that a run woke are in line behind it. The run itself is in line
/// at once, for any thread that has nothing to do; tokio's `yield_now` would keep it back until this one has.
async fn yield_turn() {
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
