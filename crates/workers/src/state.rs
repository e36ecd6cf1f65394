//! Workers, queues and tasks of this server. One lock is held around each change; nothing here waits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use runloom_engine::{RunId, TaskId, Value};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    queue::{Queue, Tag},
    recent::Recent,
    types::{Assignment, CancelReason, Closed, Handler, Hello, Lane, Message, Outcome, Part, Token, WorkerId},
};

/// The most tasks that a worker has or may take at once.
const MAX_CREDIT: u32 = 10_000;
/// How many outcomes are remembered, to answer a worker that sends one again.
const MAX_SETTLED: usize = 10_000;
/// For how many tasks the details of the last heartbeat are held for the next try.
const MAX_DETAILS: usize = 1_000;

/// What a task's node is sent, in order.
#[derive(Debug)]
pub(crate) enum Signal {
    Part(Part),
    Beat,
    Done(Outcome),
}

/// What happens to a task beside what its worker sends.
#[derive(Debug)]
pub(crate) enum Control {
    Started,
    Lost(String),
}

/// The same call of a handler in every try of an attempt.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CallKey {
    pub run: RunId,
    pub task: TaskId,
    /// The attempt of the run: another one's outcome does not count.
    pub attempt: u32,
    pub lane: Lane,
    /// The id of the tool's call.
    pub call: Option<String>,
}

impl CallKey {
    /// The same in every attempt.
    pub fn of_any_attempt(&self) -> Self {
        Self { attempt: 0, ..self.clone() }
    }
}

pub(crate) struct Entry {
    pub key: CallKey,
    pub queue: Arc<str>,
    pub assignment: Assignment,
    pub signals: mpsc::Sender<Signal>,
    pub control: mpsc::UnboundedSender<Control>,
    pub phase: Phase,
    pub beat: SystemTime,
    pub created: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    Waiting(Tag),
    Running { worker: WorkerId, since: SystemTime },
    Done { worker: WorkerId },
}

pub(crate) struct Worker {
    pub hello: Hello,
    pub handlers: BTreeMap<Lane, Handler>,
    /// Which connection of the worker this is.
    pub epoch: u64,
    pub outbox: mpsc::UnboundedSender<Result<Message, Closed>>,
    pub credit: u32,
    pub tasks: HashSet<Token>,
    pub draining: bool,
    pub attached: SystemTime,
    /// How many outcomes of it have counted.
    pub completed: u64,
}

/// What came of a task.
pub(crate) enum Settled {
    Stored,
    Refused(String),
    /// Its worker lost it; the call that goes on elsewhere.
    Lost(CallKey),
}

/// See [`crate::Workers`].
pub(crate) struct State {
    pub workers: BTreeMap<WorkerId, Worker>,
    pub queues: BTreeMap<Arc<str>, Line>,
    pub tasks: HashMap<Token, Entry>,
    /// The try of each call that counts.
    pub current: HashMap<CallKey, Token>,
    pub settled: Recent<Token, (WorkerId, Settled)>,
    /// By calls of attempt 0: of any.
    pub details: Recent<CallKey, Value>,
    epochs: u64,
}

/// A queue with its workers.
#[derive(Default)]
pub(crate) struct Line {
    pub queue: Queue,
    pub workers: BTreeSet<WorkerId>,
    pub running: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            workers: BTreeMap::new(),
            queues: BTreeMap::new(),
            tasks: HashMap::new(),
            current: HashMap::new(),
            settled: Recent::new(MAX_SETTLED),
            details: Recent::new(MAX_DETAILS),
            epochs: 0,
        }
    }
}

impl State {
    /// Attaches a worker. An earlier connection of it ends.
    pub fn attach(&mut self, hello: Hello, outbox: mpsc::UnboundedSender<Result<Message, Closed>>) -> u64 {
        let id = hello.worker_id;
        if let Some(before) = self.workers.get(&id) {
            let _ = before.outbox.send(Err(Closed::Replaced));
            let epoch = before.epoch;
            self.detach(id, epoch, "another connection has its id");
        }
        self.epochs += 1;
        let handlers = hello.handlers.iter().map(|h| ((h.kind, h.name.clone()), h.clone())).collect();
        self.queues.entry(hello.queue.clone()).or_default().workers.insert(id);
        let worker = Worker {
            hello,
            handlers,
            epoch: self.epochs,
            outbox,
            credit: 0,
            tasks: HashSet::new(),
            draining: false,
            attached: SystemTime::now(),
            completed: 0,
        };
        self.workers.insert(id, worker);
        metrics::gauge!("runloom_workers_attached").set(self.workers.len() as f64);
        self.epochs
    }

    /// Ends a connection of a worker: its tasks go to others.
    pub fn detach(&mut self, id: WorkerId, epoch: u64, why: &str) {
        if self.workers.get(&id).is_none_or(|worker| worker.epoch != epoch) {
            return;
        }
        let Some(worker) = self.workers.remove(&id) else { return };
        metrics::gauge!("runloom_workers_attached").set(self.workers.len() as f64);
        for token in worker.tasks {
            self.lose(token, &worker.hello, why);
        }
        if let Some(line) = self.queues.get_mut(&worker.hello.queue) {
            line.workers.remove(&id);
        }
        self.tidy(&worker.hello.queue);
    }

    /// A worker has lost a task. One whose outcome has arrived is not lost.
    fn lose(&mut self, token: Token, hello: &Hello, why: &str) {
        if !matches!(self.tasks.get(&token), Some(Entry { phase: Phase::Running { .. }, .. })) {
            return;
        }
        let Some(entry) = self.tasks.remove(&token) else { return };
        self.count(&entry, "lost");
        if let Some(line) = self.queues.get_mut(&entry.queue) {
            line.running = line.running.saturating_sub(1);
        }
        if self.current.get(&entry.key) == Some(&token) {
            self.current.remove(&entry.key);
        }
        self.settled.insert(token, (hello.worker_id, Settled::Lost(entry.key.clone())));
        let text = format!("worker {} ({}) of queue `{}`: {why}", hello.worker_id, hello.description, hello.queue);
        let _ = entry.control.send(Control::Lost(text));
    }

    /// Forgets a queue that nothing uses.
    fn tidy(&mut self, queue: &Arc<str>) {
        if let Some(line) = self.queues.get(queue)
            && line.workers.is_empty()
            && line.running == 0
            && line.queue.len() == 0
        {
            self.queues.remove(queue);
        }
    }

    /// Adds a task: for a worker that is free, else it waits.
    pub fn enqueue(&mut self, mut entry: Entry) {
        let token = entry.assignment.token;
        entry.assignment.details = self.details.get(&entry.key.of_any_attempt()).cloned();
        self.current.insert(entry.key.clone(), token);
        let line = self.queues.entry(entry.queue.clone()).or_default();
        let lane = entry.assignment.lane.clone();
        let workers = &self.workers;
        let free = line.workers.iter().filter_map(|id| workers.get(id));
        let free = free.filter(|worker| worker.credit > 0 && !worker.draining && worker.handlers.contains_key(&lane));
        let free = free.min_by_key(|worker| (worker.tasks.len(), std::cmp::Reverse(worker.credit)));
        let free = free.map(|worker| worker.hello.worker_id);
        let tag = line.queue.push(&lane, entry.key.run, token, entry.created);
        entry.phase = Phase::Waiting(tag);
        let queue = entry.queue.clone();
        self.tasks.insert(token, entry);
        if let Some(worker) = free {
            self.serve(worker);
        }
        self.measure(&queue);
    }

    /// Gives a worker what waits for it, as far as its credit goes.
    pub fn serve(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let queue = worker.hello.queue.clone();
        let Some(line) = self.queues.get_mut(&queue) else { return };
        let mut is_changed = false;
        while worker.credit > 0 && !worker.draining {
            let Some(token) = line.queue.pop(|lane| worker.handlers.contains_key(lane)) else { break };
            let Some(entry) = self.tasks.get_mut(&token) else { continue };
            let since = SystemTime::now();
            entry.phase = Phase::Running { worker: id, since };
            entry.beat = since;
            worker.credit -= 1;
            worker.tasks.insert(token);
            line.running += 1;
            metrics::histogram!("runloom_worker_wait_seconds", "queue" => queue.to_string())
                .record(entry.created.elapsed().as_secs_f64());
            let _ = entry.control.send(Control::Started);
            let _ = worker.outbox.send(Ok(Message::Task(Box::new(entry.assignment.clone()))));
            is_changed = true;
        }
        if is_changed {
            self.measure(&queue);
        }
    }

    /// A worker can take more tasks.
    pub fn ready(&mut self, id: WorkerId, more: u32) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let most = MAX_CREDIT.saturating_sub(u32::try_from(worker.tasks.len()).unwrap_or(u32::MAX));
        worker.credit = worker.credit.saturating_add(more).min(most);
        self.serve(id);
    }

    /// The task's outcome has arrived. Returns where it is sent on; or what the worker is answered, if it does not count.
    pub fn accept(&mut self, id: WorkerId, token: Token) -> Result<mpsc::Sender<Signal>, Option<Message>> {
        if let Some(entry) = self.tasks.get_mut(&token) {
            return match entry.phase {
                Phase::Running { worker, .. } if worker == id => {
                    entry.phase = Phase::Done { worker };
                    let (queue, signals) = (entry.queue.clone(), entry.signals.clone());
                    if let Some(line) = self.queues.get_mut(&queue) {
                        line.running = line.running.saturating_sub(1);
                    }
                    self.measure(&queue);
                    Ok(signals)
                }
                // Sent again, and answered when it is stored.
                Phase::Done { worker } if worker == id => Err(None),
                _ => Err(Some(Message::Refused(token, UNKNOWN.to_owned()))),
            };
        }
        let key = match self.settled.get(&token) {
            Some((worker, _)) if *worker != id => return Err(Some(Message::Refused(token, UNKNOWN.to_owned()))),
            None => return Err(Some(Message::Refused(token, UNKNOWN.to_owned()))),
            Some((_, Settled::Stored)) => return Err(Some(Message::Stored(token))),
            Some((_, Settled::Refused(why))) => return Err(Some(Message::Refused(token, why.clone()))),
            Some((_, Settled::Lost(key))) => key.clone(),
        };
        self.adopt(id, token, &key).ok_or_else(|| {
            let why = CancelReason::Fenced.refusal().to_owned();
            self.settled.insert(token, (id, Settled::Refused(why.clone())));
            Some(Message::Refused(token, why))
        })
    }

    /// The outcome of a try that its worker lost, for the next try, as long as that waits for a worker: it ends with it.
    fn adopt(&mut self, id: WorkerId, token: Token, key: &CallKey) -> Option<mpsc::Sender<Signal>> {
        let current = *self.current.get(key)?;
        let Phase::Waiting(tag) = self.tasks.get(&current)?.phase else { return None };
        let mut entry = self.tasks.remove(&current)?;
        if let Some(line) = self.queues.get_mut(&entry.queue) {
            line.queue.remove(&entry.assignment.lane, tag);
        }
        entry.phase = Phase::Done { worker: id };
        let _ = entry.control.send(Control::Started);
        let (queue, signals) = (entry.queue.clone(), entry.signals.clone());
        // From here on the call goes by the token that the worker knows.
        self.settled.remove(&token);
        self.current.insert(key.clone(), token);
        entry.assignment.token = token;
        self.tasks.insert(token, entry);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.tasks.insert(token);
        }
        self.measure(&queue);
        Some(signals)
    }

    /// The token under which a call's present try goes.
    pub fn token_of(&self, key: &CallKey) -> Option<Token> {
        self.current.get(key).copied()
    }

    /// Where what a worker sends of a task goes, as long as it has it.
    pub fn running(&mut self, id: WorkerId, token: Token) -> Option<&mut Entry> {
        let entry = self.tasks.get_mut(&token)?;
        matches!(entry.phase, Phase::Running { worker, .. } if worker == id).then_some(entry)
    }

    /// The call is over: what it came to is stored, or refused.
    pub fn settle(&mut self, token: Token, how: Result<(), String>) {
        let Some(entry) = self.tasks.remove(&token) else { return };
        if self.current.get(&entry.key) == Some(&token) {
            self.current.remove(&entry.key);
        }
        let Phase::Done { worker } = entry.phase else { return };
        let (message, settled) = match how {
            Ok(()) => (Message::Stored(token), Settled::Stored),
            Err(why) => (Message::Refused(token, why.clone()), Settled::Refused(why)),
        };
        if matches!(settled, Settled::Stored) {
            self.details.remove(&entry.key.of_any_attempt());
        }
        self.settled.insert(token, (worker, settled));
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.completed += 1;
            worker.tasks.remove(&token);
            let _ = worker.outbox.send(Ok(message));
            self.finish_drain(entry_worker(&entry.phase));
        }
        self.tidy(&entry.queue);
    }

    /// The node no longer waits for the outcome.
    pub fn abandon(&mut self, token: Token, reason: CancelReason) {
        let Some(phase) = self.tasks.get(&token).map(|entry| entry.phase) else { return };
        if let Phase::Done { .. } = phase {
            return self.settle(token, Err(reason.refusal().to_owned()));
        }
        let Some(entry) = self.tasks.remove(&token) else { return };
        if self.current.get(&entry.key) == Some(&token) {
            self.current.remove(&entry.key);
        }
        match phase {
            Phase::Waiting(tag) => {
                if let Some(line) = self.queues.get_mut(&entry.queue) {
                    line.queue.remove(&entry.assignment.lane, tag);
                }
            }
            Phase::Running { worker, .. } => {
                self.count(&entry, "cancelled");
                if let Some(line) = self.queues.get_mut(&entry.queue) {
                    line.running = line.running.saturating_sub(1);
                }
                self.settled.insert(token, (worker, Settled::Refused(reason.refusal().to_owned())));
                if let Some(attached) = self.workers.get_mut(&worker) {
                    attached.tasks.remove(&token);
                    let _ = attached.outbox.send(Ok(Message::Cancel(token, reason)));
                    self.finish_drain(Some(worker));
                }
            }
            Phase::Done { .. } => {}
        }
        self.measure(&entry.queue);
        self.tidy(&entry.queue);
    }

    /// A worker takes no more tasks.
    pub fn drain(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.draining = true;
            worker.credit = 0;
        }
        self.finish_drain(Some(id));
    }

    /// Ends the connection of a worker that drains and has nothing left.
    fn finish_drain(&mut self, id: Option<WorkerId>) {
        if let Some(worker) = id.and_then(|id| self.workers.get(&id))
            && worker.draining
            && worker.tasks.is_empty()
        {
            let _ = worker.outbox.send(Err(Closed::Drained));
        }
    }

    pub fn count(&self, entry: &Entry, outcome: &'static str) {
        metrics::counter!("runloom_worker_tasks_total", "queue" => entry.queue.to_string(), "outcome" => outcome)
            .increment(1);
    }

    fn measure(&self, queue: &Arc<str>) {
        let (waiting, running) = self.queues.get(queue).map_or((0, 0), |line| (line.queue.len(), line.running));
        metrics::gauge!("runloom_worker_queue_depth", "queue" => queue.to_string()).set(waiting as f64);
        metrics::gauge!("runloom_worker_running", "queue" => queue.to_string()).set(running as f64);
    }
}

/// The worker that a phase names.
fn entry_worker(phase: &Phase) -> Option<WorkerId> {
    match phase {
        Phase::Running { worker, .. } | Phase::Done { worker } => Some(*worker),
        Phase::Waiting(_) => None,
    }
}

/// Why a token is refused that is none of the worker's.
const UNKNOWN: &str = "this server has no such task of this worker: its run was taken over or has ended, or the server was \
                       started again since";
