//! The server's end of a worker's connection: what the worker sends goes in, what it is sent comes out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use runloom_engine::Value;
use tokio::sync::{Notify, mpsc};

use crate::{
    Workers,
    state::{Phase, Signal},
    types::{Closed, Failure, Hello, Message, Outcome, Part, Retryable, Token, WorkerId},
};

/// How many answers may wait for a worker that does not read them, before what it sends is not read either.
const MAX_ANSWERS: usize = 256;

/// The server's end of a worker's connection. When it is dropped, the worker's tasks go to others.
pub struct Session {
    workers: Workers,
    id: WorkerId,
    epoch: u64,
    answers: Arc<Answers>,
    /// Why the connection ended, for the tasks that it had.
    pub lost: String,
}

/// What a worker is sent.
pub struct Outbox {
    messages: mpsc::UnboundedReceiver<Result<Message, Closed>>,
    answers: Arc<Answers>,
}

/// The answers to what the worker sends: those that it has not read hold up what it sends next.
#[derive(Default)]
struct Answers {
    waiting: AtomicUsize,
    taken: Notify,
}

impl Workers {
    /// Attaches a worker. An earlier connection with its id ends.
    pub fn attach(&self, hello: Hello) -> (Session, Outbox) {
        let (sender, messages) = mpsc::unbounded_channel();
        let id = hello.worker_id;
        tracing::info!(worker = %id, queue = %hello.queue, description = hello.description, "worker attached");
        let epoch = self.state.lock().attach(hello, sender);
        let answers = Arc::<Answers>::default();
        let session = Session {
            workers: self.clone(),
            id,
            epoch,
            answers: answers.clone(),
            lost: "its connection ended".to_owned(),
        };
        (session, Outbox { messages, answers })
    }
}

impl Outbox {
    /// The next message; none once the connection is replaced or over.
    pub async fn next(&mut self) -> Option<Result<Message, Closed>> {
        let message = self.messages.recv().await;
        if let Some(Ok(Message::Refused(..) | Message::Stored(_) | Message::Values(..))) = &message {
            // Those that are no answers are not counted: the count stays at zero.
            let _ = self.answers.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            self.answers.taken.notify_one();
        }
        message
    }
}

impl Session {
    /// The worker's id.
    pub fn worker_id(&self) -> WorkerId {
        self.id
    }

    /// The worker can execute more tasks.
    pub fn ready(&self, more: u32) {
        self.workers.state.lock().ready(self.id, more);
    }

    /// A task is alive; or, without one, the worker.
    pub fn heartbeat(&self, token: Token, details: Option<Value>) {
        let mut state = self.workers.state.lock();
        let Some(entry) = state.running(self.id, token) else { return };
        entry.beat = SystemTime::now();
        // A full channel has signs of life in it.
        let _ = entry.signals.try_send(Signal::Beat);
        let key = entry.key.of_any_attempt();
        if let Some(details) = details {
            state.details.insert(key, details);
        }
    }

    /// A part of the stream of a task's run. Waits while the run has many that it has not taken. One of a task that is over
    /// is dropped.
    pub async fn emit(&self, token: Token, part: Part) {
        let signals = self.workers.state.lock().running(self.id, token).map(|entry| {
            entry.beat = SystemTime::now();
            entry.signals.clone()
        });
        if let Some(signals) = signals {
            let _ = signals.send(Signal::Part(part)).await;
        }
    }

    /// The outcome of a task. It counts once, and as long as no other try of the task has started.
    pub async fn done(&self, token: Token, outcome: Outcome) {
        let accepted = {
            let mut state = self.workers.state.lock();
            let accepted = state.accept(self.id, token);
            if let (Ok(_), Some(entry)) = (&accepted, state.tasks.get(&token)) {
                state.count(entry, outcome.name());
            }
            accepted
        };
        match accepted {
            Ok(signals) => drop(signals.send(Signal::Done(outcome)).await),
            Err(None) => {}
            Err(Some(answer)) => self.answer(answer).await,
        }
    }

    /// What the worker sent of a task cannot be used: the task fails, and is not tried again.
    pub async fn fault(&self, token: Token, message: String) {
        let failure = Failure {
            kind: "WorkerProtocolError".to_owned(),
            message,
            details: String::new(),
            retryable: Retryable::No,
            retry_delay: None,
        };
        self.done(token, Outcome::Failed(failure)).await;
    }

    /// Values that the worker does not have: they are sent as long as it has the task.
    pub async fn missing(&self, token: Token, channels: &[String]) {
        let state = self.workers.state.lock().running(self.id, token).and_then(|entry| entry.assignment.state.clone());
        let Some(state) = state else { return };
        let mut values: Vec<_> = Vec::new();
        for channel in channels {
            if let Some((name, value)) = state.iter().find(|(name, _)| ***name == **channel)
                && !values.iter().any(|(known, _)| known == name)
            {
                values.push((name.clone(), value.clone()));
            }
        }
        self.answer(Message::Values(token, values)).await;
    }

    /// The worker takes no more tasks.
    pub fn draining(&self) {
        self.workers.state.lock().drain(self.id);
    }

    /// Whether the worker has a task whose outcome has not arrived.
    pub fn has_running(&self) -> bool {
        let state = self.workers.state.lock();
        let tasks = state.workers.get(&self.id).filter(|worker| worker.epoch == self.epoch).map(|worker| &worker.tasks);
        tasks.is_some_and(|tasks| {
            tasks.iter().any(|t| matches!(state.tasks.get(t).map(|e| e.phase), Some(Phase::Running { .. })))
        })
    }

    /// Sends an answer, and waits while many have not been read.
    async fn answer(&self, message: Message) {
        {
            let state = self.workers.state.lock();
            let Some(worker) = state.workers.get(&self.id).filter(|worker| worker.epoch == self.epoch) else { return };
            self.answers.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = worker.outbox.send(Ok(message));
        }
        loop {
            let taken = self.answers.taken.notified();
            if self.answers.waiting.load(Ordering::Relaxed) <= MAX_ANSWERS {
                return;
            }
            taken.await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        tracing::info!(worker = %self.id, why = self.lost, "worker detached");
        self.workers.state.lock().detach(self.id, self.epoch, &self.lost);
    }
}
