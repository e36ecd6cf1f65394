//! What is told of runs to those who operate the server: a span for each attempt, and figures of how runs go. Figures are
//! recorded through [`metrics`]: where the program keeps none, they cost next to nothing.

use std::time::SystemTime;

use runloom_engine::{Object, model::Usage, trace};
use runloom_store::{Run, RunStatus, Unfinished};
use tracing::{Span, field::Empty, info_span};

use crate::{Core, Error, Result, log::End};

/// The span of an attempt at a run, part of the trace of whoever asked for the run.
pub(super) fn span(run: &Run, attempt: u32, context: &Object) -> Span {
    let span = info_span!(
        target: trace::TARGET, "run",
        otel.name = %format_args!("invoke_agent {}", run.graph),
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = run.graph.as_str(),
        gen_ai.agent.id = Empty,
        gen_ai.conversation.id = %run.thread,
        runloom.run.id = %run.id,
        runloom.run.attempt = i64::from(attempt),
        runloom.run.status = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    if let (false, Some(assistant)) = (span.is_disabled(), run.assistant) {
        span.record("gen_ai.agent.id", tracing::field::display(assistant));
    }
    trace::adopt(&span, context);
    span
}

/// An attempt begins: how long the run has waited.
pub(super) fn begun(run: &Run, now: SystemTime) {
    let since = run.start_at.map_or(run.created_at, |at| at.max(run.created_at));
    if run.attempt <= 1 {
        metrics::histogram!("runloom_run_queue_wait_seconds").record(now.duration_since(since).unwrap_or_default());
    }
}

/// The first piece of a message of a run.
pub(super) fn first_token(run: &Run, now: SystemTime) {
    let wait = now.duration_since(run.created_at).unwrap_or_default();
    metrics::histogram!("runloom_run_time_to_first_token_seconds").record(wait);
}

/// What is told of a run's end.
pub(super) struct Outcome {
    status: RunStatus,
    usage: Usage,
    /// The kind of the error it ended with.
    failed: Option<String>,
}

impl Outcome {
    pub fn of(end: &End) -> Self {
        let kind = |error: &Error| error.kind.clone().unwrap_or_else(|| error.reason.name().to_owned());
        Self { status: end.status, usage: end.usage, failed: end.error.as_ref().map(kind) }
    }
}

/// A run is over.
pub(super) fn ended(run: &Run, end: &Outcome, now: SystemTime) {
    let status = end.status.name();
    metrics::counter!("runloom_runs_ended_total", "graph" => run.graph.clone(), "status" => status).increment(1);
    let took = run.started_at.and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
    metrics::histogram!("runloom_run_duration_seconds", "status" => status).record(took);
    let span = Span::current();
    span.record("runloom.run.status", status);
    if end.usage != Usage::default() {
        trace::used(&span, end.usage);
    }
    match &end.failed {
        // Of which kind the error is: what it says may be a user's.
        Some(kind) if end.status != RunStatus::Cancelled => {
            tracing::info!(run = %run.id, thread = %run.thread, graph = run.graph, status, error = kind, "a run failed");
        }
        _ => tracing::debug!(run = %run.id, thread = %run.thread, graph = run.graph, status, "a run ended"),
    }
    if let Some(kind) = &end.failed {
        trace::failed(&span, kind);
    }
}

/// A stream that is open to a client, until it is dropped.
pub struct OpenStream(&'static str);

impl OpenStream {
    /// Of an API: `grpc`, `http`.
    pub fn of(api: &'static str) -> Self {
        metrics::gauge!("runloom_streams_open", "api" => api).increment(1.0);
        Self(api)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("runloom_streams_open", "api" => self.0).decrement(1.0);
    }
}

/// How many runs are not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Those that wait.
    pub pending: u64,
    /// Those under way.
    pub running: u64,
    /// The most that may be under way at once.
    pub most: u64,
}

impl Core {
    /// How many runs are not over.
    pub async fn queue(&self) -> Result<Queue> {
        let Unfinished { pending, running } = self.inner.store.count_unfinished().await?;
        Ok(Queue { pending, running, most: self.inner.options.max_running as u64 })
    }

    /// Records the figures that are looked up rather than counted as they come. To be called before they are read.
    pub async fn observe(&self) -> Result<Queue> {
        let queue = self.queue().await?;
        metrics::gauge!("runloom_runs", "status" => "pending").set(queue.pending as f64);
        metrics::gauge!("runloom_runs", "status" => "running").set(queue.running as f64);
        let (readers, behind) = self.inner.runner.logs.readers();
        metrics::gauge!("runloom_readers").set(readers as f64);
        metrics::gauge!("runloom_reader_lag_records").set(behind as f64);
        let stats = self.inner.store.stats();
        metrics::counter!("runloom_checkpoints_total").absolute(stats.checkpoints);
        metrics::counter!("runloom_checkpoint_bytes_total").absolute(stats.checkpoint_bytes + stats.snapshot_bytes);
        metrics::counter!("runloom_log_records_total").absolute(stats.log_records);
        metrics::counter!("runloom_log_bytes_total").absolute(stats.log_bytes);
        metrics::counter!("runloom_store_commits_total").absolute(stats.commits);
        metrics::counter!("runloom_store_errors_total").absolute(stats.failed_commits);
        let is_serving = self.inner.store.health().borrow().is_serving();
        metrics::gauge!("runloom_store_up").set(if is_serving { 1.0 } else { 0.0 });
        Ok(queue)
    }
}

/// Says what each figure is, for whoever reads them. To be called once the program keeps figures.
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    gauge!("runloom_runs", "Runs that are not over, by state");
    gauge!("runloom_streams_open", "Streams that clients have open, by face");
    gauge!("runloom_readers", "Readers of runs that are under way");
    gauge!("runloom_reader_lag_records", "How many records the slowest reader of a run under way is behind");
    gauge!("runloom_workers_attached", "Workers that are attached to this server");
    gauge!("runloom_worker_queue_depth", "Tasks that wait for a worker, by queue");
    gauge!("runloom_worker_running", "Tasks that workers execute, by queue");
    histogram!("runloom_worker_wait_seconds", Unit::Seconds, "How long tasks waited for a worker, by queue");
    counter!("runloom_worker_tasks_total", "Tasks of workers that ended, by queue and outcome");
    gauge!("runloom_store_up", "1 while writes work");
    counter!("runloom_runs_ended_total", "Runs that are over, by graph and how they ended");
    counter!("runloom_supersteps_total", "Supersteps taken, those of subgraphs included");
    counter!("runloom_model_calls_total", "Calls of chat models, by provider, model and outcome");
    counter!(
        "runloom_model_tokens_total",
        "Tokens, by provider, model and kind: input and output, and of these cached and reasoning"
    );
    counter!("runloom_tool_calls_total", "Calls of tools, by tool and outcome");
    counter!("runloom_checkpoints_total", "Checkpoints kept");
    counter!("runloom_checkpoint_bytes_total", Unit::Bytes, "Bytes of checkpoints kept, snapshots included");
    counter!("runloom_log_records_total", "Records of logs kept");
    counter!("runloom_log_bytes_total", Unit::Bytes, "Bytes of logs kept");
    counter!("runloom_store_commits_total", "Transactions committed");
    counter!("runloom_store_errors_total", "Transactions that failed");
    histogram!(
        "runloom_store_commit_seconds",
        Unit::Seconds,
        "How long a transaction takes to be on disk: its COMMIT, with the fsync"
    );
    histogram!("runloom_run_queue_wait_seconds", Unit::Seconds, "From when a run could begin to when it did");
    histogram!("runloom_run_duration_seconds", Unit::Seconds, "From a run's beginning to its end, by how it ended");
    histogram!(
        "runloom_run_time_to_first_token_seconds",
        Unit::Seconds,
        "From when a run was made to its first piece of a message, where messages are streamed"
    );
    histogram!(
        "runloom_model_time_to_first_token_seconds",
        Unit::Seconds,
        "From the call of a chat model to its first piece"
    );
}
