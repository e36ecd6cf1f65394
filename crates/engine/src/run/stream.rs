//! A run as its caller holds it: a stream that is pulled, or one answer at the end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_core::Stream;
use futures_util::{StreamExt, future::BoxFuture};
use parking_lot::Mutex;

use super::{
    replay::Replay,
    scope::{Answers, Level, RunScope},
    start,
    superstep::{Ran, Stopped, output_of},
    task::EXECUTOR_LOST,
};
use crate::{
    Answer, Error, Graph, Input, NodeError, Object, RunConfig, RunId, Value,
    checkpoint::Saved,
    model::Usage,
    stream::{Interrupt, Modes, Part, SnapshotRef},
};

/// How a run ended, where it did not fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The output channels, with what finished siblings of a stopped task wrote.
    pub values: Object,
    /// The whole state, as the last checkpoint has it.
    pub state: SnapshotRef,
    /// The open questions, where it stopped at some.
    pub interrupts: Vec<Interrupt>,
    /// True where it stopped: at questions, or at a breakpoint.
    pub is_interrupted: bool,
    /// Tokens used by all models it called.
    pub usage: Usage,
}

/// A run under way. It goes only while it is polled: a reader that stops reading stops the graph, and dropping the
/// stream cancels it. After the last part, [`RunStream::finished`] has the end.
pub struct RunStream {
    run: Arc<RunScope>,
    work: Option<BoxFuture<'static, Result<Finished, Error>>>,
    finished: Option<Result<Finished, Error>>,
}

impl RunStream {
    /// The run's id.
    pub fn run_id(&self) -> RunId {
        RunId(self.run.run_id)
    }

    /// Tokens used so far.
    pub fn usage(&self) -> Usage {
        *self.run.usage.lock()
    }

    /// Whether parts are at hand, without the run going on.
    pub fn has_ready(&self) -> bool {
        self.run.queue.len() > 0
    }

    /// How the run ended; `None` while it goes.
    pub fn finished(&mut self) -> Option<Result<Finished, Error>> {
        self.finished.take()
    }

    /// Runs to the end, past whatever else it tells.
    pub async fn finish(mut self) -> Result<Finished, Error> {
        while self.next().await.is_some() {}
        match self.finished.take() {
            Some(finished) => finished,
            None => Err(Error::Cancelled { graph: String::new() }),
        }
    }
}

impl Stream for RunStream {
    type Item = Part;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Part>> {
        let this = &mut *self;
        if let Some(part) = this.run.queue.pop() {
            return Poll::Ready(Some(part));
        }
        let Some(work) = &mut this.work else { return Poll::Ready(None) };
        this.run.queue.no_longer_waiting();
        match work.as_mut().poll(cx) {
            Poll::Ready(finished) => {
                this.work = None;
                this.finished = Some(finished);
                Poll::Ready(this.run.queue.pop())
            }
            Poll::Pending => match this.run.queue.pop_or_wait(cx.waker()) {
                Some(part) => Poll::Ready(Some(part)),
                None => Poll::Pending,
            },
        }
    }
}

impl Graph {
    /// Runs the graph to its end, or to where it stops. Gives the output channels.
    pub async fn invoke(&self, input: impl Into<Input>, config: RunConfig) -> Result<Finished, Error> {
        self.stream(input, RunConfig { modes: Modes::NONE, ..config }).finish().await
    }

    /// Runs the graph and tells what `config.modes` ask for. Pulled: nothing runs but while the stream is polled.
    pub fn stream(&self, input: impl Into<Input>, config: RunConfig) -> RunStream {
        let input = input.into();
        let clock = self.runtime.clock.clone();
        let run_id = config.run_id.map_or_else(|| clock.uuid(), |r| r.0);
        let by_id = match &input {
            Input::Command(crate::Command { resume: Some(Answer::ById(answers)), .. }) => answers.clone(),
            _ => Vec::new(),
        };
        let run = Arc::new(RunScope {
            queue: Default::default(),
            modes: config.modes,
            run_id,
            cancel: config.cancel.clone(),
            clock,
            answers: Answers { by_id, bare: Mutex::default() },
            told: Mutex::default(),
            usage: Mutex::default(),
            tags: config.tags.as_slice().into(),
            replay: Default::default(),
            config,
        });
        let work = Box::pin(outermost(self.clone(), run.clone(), input));
        RunStream { run, work: Some(work), finished: None }
    }

    /// Runs the graph and tells events, as `config.events` lets them through.
    pub fn stream_events(&self, input: impl Into<Input>, config: RunConfig) -> RunStream {
        self.stream(input, RunConfig { modes: crate::stream::Mode::Events.into(), ..config })
    }
}

/// The run from its checkpoint to its end.
async fn outermost(graph: Graph, run: Arc<RunScope>, input: Input) -> Result<Finished, Error> {
    let Loaded { mut saved, superseded, latest, replay } = load(&graph, &run.config, &input).await?;
    let origin = replay.is_some().then(Arc::default);
    if let Some(replay) = replay {
        run.replay.get_or_init(|| replay);
    }
    if let (Input::Values(_), false, Some(saved)) = (&input, run.config.strict, &mut saved) {
        // New input puts an end to what was open, be it of nodes that the graph lacks by now.
        saved.checkpoint.control.retain(|node| graph.inner.node_ids.contains_key(node));
    }
    let mut metadata = run.config.metadata.clone();
    if let Some(thread) = run.config.thread_id {
        metadata.insert("thread_id", thread.to_string());
    }
    let level = Arc::new(Level {
        graph: graph.clone(),
        ns: "".into(),
        depth: 0,
        origin,
        shares: false,
        event_id: run.run_id,
        parents: [run.run_id].into(),
        tells: true,
        tags: run.tags.clone(),
        metadata,
        parent_checkpoints: Object::default(),
        within: None,
        above: None,
        last_step: i64::MAX.into(),
        run: run.clone(),
    });
    let superstep = start::restore(level, saved, superseded, latest, false)?;
    let Ran { stopped, channels, shown, .. } = superstep.run(input).await;
    let state = channels.snapshot().clone();
    let values = shown.unwrap_or_else(|| output_of(&graph, &channels));
    let usage = *run.usage.lock();
    match stopped {
        Ok(Stopped::Done) => Ok(Finished { values, state, interrupts: Vec::new(), is_interrupted: false, usage }),
        Ok(Stopped::Interrupted(interrupts)) => Ok(Finished { values, state, interrupts, is_interrupted: true, usage }),
        Err(NodeError::Engine(error)) => Err(*error),
        Err(NodeError::Failed(error)) => {
            Err(Error::Node { graph: graph.name().to_string(), node: String::new(), error })
        }
        Err(NodeError::ExecutorLost(text)) => {
            let error = crate::NodeFailure::new(EXECUTOR_LOST, text);
            Err(Error::Node { graph: graph.name().to_string(), node: String::new(), error })
        }
        Err(NodeError::Cancelled) => Err(Error::Cancelled { graph: graph.name().to_string() }),
        Err(NodeError::Interrupted(interrupts)) => {
            Ok(Finished { values, state, interrupts, is_interrupted: true, usage })
        }
        Ok(Stopped::HandedOver(_)) | Err(NodeError::Parent(_)) => {
            Err(Error::NoParent { graph: graph.name().to_string(), node: String::new() })
        }
    }
}

/// The checkpoint a run starts from.
struct Loaded {
    saved: Option<Saved>,
    /// Whether the thread has moved past it.
    superseded: bool,
    /// The thread's latest, past which new ones come.
    latest: Option<crate::CheckpointId>,
    /// The checkpoints to go on from, where that is one of a subgraph.
    replay: Option<Replay>,
}

async fn load(graph: &Graph, config: &RunConfig, input: &Input) -> Result<Loaded, Error> {
    let fail = |error| Error::Checkpointer { graph: graph.name().to_string(), error };
    let (Some(saver), Some(thread)) = (&graph.runtime.checkpointer, config.thread_id) else {
        return match config.checkpoint_id {
            None => Ok(Loaded { saved: None, superseded: false, latest: None, replay: None }),
            Some(_) => {
                Err(Error::NoCheckpointer { graph: graph.name().to_string(), what: "a checkpoint to start from" })
            }
        };
    };
    let latest = saver.get(thread, "", None).await.map_err(fail)?;
    let newest = latest.as_ref().map(|l| l.checkpoint.id);
    let from_latest = |saved| Loaded { saved, superseded: false, latest: newest, replay: None };
    let Some(id) = config.checkpoint_id else { return Ok(from_latest(latest)) };
    // The next attempt of a run that has left the checkpoint it was told to start from goes on from its own.
    let is_own = config.attempt > 1
        && latest.as_ref().is_some_and(|l| l.checkpoint.run_id == config.run_id && config.run_id.is_some());
    if !config.checkpoint_ns.is_empty() {
        if !matches!(input, Input::Resume) {
            return Err(Error::InvalidInput {
                graph: graph.name().to_string(),
                field: None,
                message: "a run from a checkpoint of a subgraph takes no input and no command".to_owned(),
            });
        }
        let (root, replay) = Replay::load(graph, (&**saver, thread), &config.checkpoint_ns, id).await?;
        let saved = if is_own { latest } else { Some(root) };
        return Ok(Loaded { saved, superseded: !is_own, latest: newest, replay: Some(replay) });
    }
    if is_own || latest.as_ref().is_some_and(|l| l.checkpoint.id == id) {
        return Ok(from_latest(latest));
    }
    match saver.get(thread, "", Some(id)).await.map_err(fail)? {
        Some(saved) => Ok(Loaded { saved: Some(saved), superseded: true, latest: newest, replay: None }),
        None => Err(Error::CheckpointNotFound(id)),
    }
}

/// The values of an object, for those who give one.
impl From<Object> for Input {
    fn from(fields: Object) -> Self {
        Self::Values(Value::Object(fields))
    }
}
