//! The events of a thread, numbered: those of all its runs, one after the other.
//!
//! A record always gives the same events, so an event's `seq` is a count over the logs of the thread's runs and needs no
//! storage of its own: every reader, also one of another server or after a restart, counts the same. [`ThreadLogs`] remembers
//! how far each run reaches, so that a reader that comes back does not count from the thread's beginning.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use runloom_core::{Body, Error, ReadOptions, Record, RunSpec, Session, ThreadPart, ThreadReader};
use runloom_engine::{RunId, ThreadId};
use uuid::Uuid;

use super::{event::Numbered, translate::Translator};

/// How many threads are remembered; the one that was used longest ago goes first.
const THREADS: usize = 4096;

/// How far the runs of threads reach. A cache: what it lacks is counted from the logs.
#[derive(Clone, Default)]
pub(crate) struct ThreadLogs(Arc<Mutex<VecDeque<(ThreadId, Arc<Mutex<Runs>>)>>>);

/// The runs of a thread that readers have reached, in the order in which they ran.
#[derive(Default)]
struct Runs(Vec<Reach>);

struct Reach {
    run: RunId,
    /// The number before its first event.
    start: u64,
    /// The number of the last event that any reader has seen.
    end: u64,
    is_over: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadLogs {
    fn of(&self, thread: ThreadId) -> Arc<Mutex<Runs>> {
        let mut all = locked(&self.0);
        let found = all.iter().position(|(id, _)| *id == thread).and_then(|at| all.remove(at));
        let entry = found.unwrap_or_else(|| (thread, Arc::default()));
        let runs = entry.1.clone();
        all.push_back(entry);
        if all.len() > THREADS {
            all.pop_front();
        }
        runs
    }
}

impl Runs {
    /// The last run that a reader who has seen `since` need not read again.
    fn before(&self, since: u64) -> Option<&Reach> {
        self.0.iter().take_while(|reach| reach.is_over && reach.end <= since).last()
    }

    /// Where a run begins, for a reader that has come to it after number `seq`.
    fn begin(&mut self, run: RunId, seq: u64) -> u64 {
        if let Some(known) = self.0.iter().find(|reach| reach.run == run) {
            return known.start;
        }
        // A run that was deleted keeps the numbers that readers have seen of it.
        let start = self.0.last().map_or(seq, |last| last.end.max(seq));
        if let Some(last) = self.0.last_mut() {
            last.is_over = true;
        }
        self.0.push(Reach { run, start, end: start, is_over: false });
        start
    }

    fn reach(&mut self, run: RunId, seq: u64, is_over: bool) {
        if let Some(known) = self.0.iter_mut().rev().find(|reach| reach.run == run) {
            known.end = known.end.max(seq);
            known.is_over |= is_over;
        }
    }
}

/// A reader of a thread's events.
pub(super) struct ThreadLog {
    core: Session,
    runs: Arc<Mutex<Runs>>,
    reader: ThreadReader,
    /// A run that has been read; its end may come once more.
    skipped: Option<RunId>,
    now: Option<(RunId, Translator)>,
    /// A record that has been read and not yet translated.
    pending: Option<Arc<Record>>,
    /// The number of the last event.
    seq: u64,
    /// Events up to this number are not wanted.
    since: u64,
    ready: VecDeque<Numbered>,
}

impl ThreadLog {
    /// Opens one that begins after `since`. The thread need not exist yet.
    pub async fn open(core: &Session, logs: &ThreadLogs, thread: ThreadId, since: u64) -> Result<Self, Error> {
        let runs = logs.of(thread);
        let from = locked(&runs).before(since).map(|reach| (reach.run, reach.end));
        let cursor = match from {
            Some((run, _)) => format!("{run}:{}", u64::MAX >> 1),
            None => format!("{}:0", Uuid::nil()),
        };
        let reader = core.follow_thread(thread, Some(cursor), ReadOptions::default(), false).await?;
        Ok(Self {
            core: core.clone(),
            runs,
            reader,
            skipped: from.map(|(run, _)| run),
            now: None,
            pending: None,
            seq: from.map_or(0, |(_, end)| end),
            since,
            ready: VecDeque::new(),
        })
    }

    /// The next event, as soon as there is one. None once the thread has been deleted.
    pub async fn next(&mut self) -> Option<Result<Numbered, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            // A caller may drop this future at each wait: what has been read is kept until it is translated.
            if self.pending.is_none() {
                match self.reader.next().await? {
                    Ok((ThreadPart::Record(record), _)) if Some(record.run_id) == self.skipped => continue,
                    Ok((ThreadPart::Record(record), _)) => self.pending = Some(record),
                    Ok((ThreadPart::Written(_), _)) => continue,
                    Err(error) => return Some(Err(error)),
                }
            }
            let Some(run) = self.pending.as_ref().map(|record| record.run_id) else { continue };
            if self.now.as_ref().is_none_or(|(known, _)| *known != run) {
                let spec = self.core.get_run(run).await.map(|found| RunSpec::of(&found)).unwrap_or_default();
                self.seq = locked(&self.runs).begin(run, self.seq);
                self.now = Some((run, Translator::new(&spec)));
            }
            if let Some(record) = self.pending.take() {
                self.number(&record);
            }
        }
    }

    fn number(&mut self, record: &Arc<Record>) {
        let run = record.run_id;
        let Some((_, translator)) = &mut self.now else { return };
        for (k, event) in (1..).zip(translator.events(record)) {
            self.seq += 1;
            if self.seq > self.since {
                let id = event.id.clone().unwrap_or_else(|| format!("{run}:{}.{k}", record.seq));
                self.ready.push_back(Numbered { seq: self.seq, id, event });
            }
        }
        locked(&self.runs).reach(run, self.seq, matches!(record.body, Body::End(_)));
    }
}
