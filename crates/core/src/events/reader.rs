//! Reading the events of a thread: of every run, live, one after the other, with their numbers.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use runloom_engine::ThreadId;
use runloom_store::{BegunAt, Direction, Run, Topic, Watch};

use super::{event::Event, translate::Translator};
use crate::{Error, ReadOptions, Reason, Record, Result, RunReader, Session, runs::StoredRequest};

/// How many runs are looked at together.
const LOOK: usize = 20;
/// How often a thread is looked at without a hint.
const POLL: Duration = Duration::from_secs(15);

/// A record of a thread, with the events that it gives.
#[derive(Clone, Debug)]
pub struct RecordEvents {
    /// The record.
    pub record: Arc<Record>,
    /// The number of the event before those of this record.
    pub before: u64,
    /// Its events, numbered from `before` + 1.
    pub events: Vec<Event>,
}

impl RecordEvents {
    /// The number of its last event; of the event before it where it has none.
    pub fn last(&self) -> u64 {
        self.before + self.events.len() as u64
    }
}

/// A reader of a thread's events. It reads what is on disk: an event that it has returned has its number for good.
pub struct EventReader {
    session: Session,
    thread: ThreadId,
    hints: Watch,
    /// The run that was read last, in the order in which runs begin; none before the first.
    begun: Option<BegunAt>,
    now: Option<(RunReader, Translator)>,
    /// The number of the last event that was read.
    seq: u64,
    /// Whether the thread has been seen: one that is gone then was deleted.
    is_created: bool,
}

impl Session {
    /// Reads the events of a thread after a number. Some before it may come first: a reader begins at a run. The thread need
    /// not exist yet.
    pub async fn read_events(&self, thread: ThreadId, since: u64) -> Result<EventReader> {
        // Subscribed before the runs are listed, so that no run is missed between the two.
        let hints = self.store().watch(Topic::Thread(thread));
        let mut reader =
            EventReader { session: self.clone(), thread, hints, begun: None, now: None, seq: 0, is_created: false };
        if since > 0 {
            reader.begin(since).await?;
        }
        Ok(reader)
    }
}

impl EventReader {
    /// Begins at the last run that began before the event after `since`.
    async fn begin(&mut self, since: u64) -> Result<()> {
        let mut from = None;
        loop {
            let (store, tenant) = (self.session.store(), self.session.tenant());
            let page = match store.begun_runs(tenant, self.thread, from, Direction::Descending, LOOK).await {
                Ok(page) => page,
                Err(runloom_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.is_created = true;
            let is_last = page.len() < LOOK;
            for run in page {
                from = BegunAt::of(&run);
                if run.events_before.is_some_and(|before| before <= since) {
                    self.open(&run).await?;
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Begins to read a run. Without effect where its log is gone, or it never began.
    async fn open(&mut self, run: &Run) -> Result<()> {
        let mut now = None;
        if run.started_at.is_some() {
            let options = ReadOptions { durable: true, ..ReadOptions::default() };
            let spec = StoredRequest::or_empty(run).spec;
            match self.session.follow_run(run.clone(), &spec, options).await {
                Ok(reader) => now = Some((reader, Translator::new(&spec))),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            self.seq = run.events_before.unwrap_or(self.seq);
        }
        self.begun = BegunAt::of(run);
        self.now = now;
        Ok(())
    }

    /// The number of the last event that was read.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The next record with its events, as soon as there is one. None once the thread has been deleted. May be dropped at any
    /// time: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<RecordEvents>> {
        loop {
            if let Some((reader, translator)) = &mut self.now {
                match reader.next().await {
                    Some(Ok(record)) => {
                        let before = self.seq;
                        let events = translator.events(&record);
                        self.seq += events.len() as u64;
                        return Some(Ok(RecordEvents { record, before, events }));
                    }
                    None => self.now = None,
                    // Deleted, rolled back or expired: the next run says where its numbers begin.
                    Some(Err(error)) if is_gone(&error) => self.now = None,
                    Some(Err(error)) => return Some(Err(error)),
                }
                continue;
            }
            self.hints.take();
            match self.next_run().await {
                Ok(Some(run)) => match self.open(&run).await {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                },
                Ok(None) => {}
                Err(error) if error.reason == Reason::ThreadNotFound && self.is_created => return None,
                Err(error) if error.reason == Reason::ThreadNotFound => {}
                Err(error) => return Some(Err(error)),
            }
            let session = self.session.clone();
            tokio::select! {
                // A hint may be lost.
                _ = tokio::time::timeout(POLL, self.hints.changed()) => {}
                () = session.inner.closing.cancelled() => {
                    let error = Error::new(Reason::ServerDraining, "the server is going down; connect again");
                    return Some(Err(error.retry_after(Duration::from_secs(1))));
                }
            }
        }
    }

    async fn next_run(&mut self) -> Result<Option<Run>> {
        let (store, tenant) = (self.session.store(), self.session.tenant());
        let found = store.begun_runs(tenant, self.thread, self.begun, Direction::Ascending, 1).await?.pop();
        self.is_created = true;
        Ok(found)
    }
}

/// Whether what a run's log held is not there any more.
fn is_gone(error: &Error) -> bool {
    matches!(error.reason, Reason::RunNotFound | Reason::CursorExpired)
}
