//! The events of a thread, one by one, from a number on.

use std::collections::VecDeque;

use runloom_core::{Error, Session, events::EventReader};
use runloom_engine::ThreadId;

use super::event::Numbered;

/// A reader of a thread's events.
pub(super) struct ThreadLog {
    reader: EventReader,
    /// Events up to this number are not wanted.
    since: u64,
    ready: VecDeque<Numbered>,
}

impl ThreadLog {
    /// Opens one that begins after `since`. The thread need not exist yet.
    pub async fn open(session: &Session, thread: ThreadId, since: u64) -> Result<Self, Error> {
        let reader = session.read_events(thread, since).await?;
        Ok(Self { reader, since, ready: VecDeque::new() })
    }

    /// The next event, as soon as there is one. None once the thread has been deleted. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Result<Numbered, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let next = match self.reader.next().await? {
                Ok(next) => next,
                Err(error) => return Some(Err(error)),
            };
            let numbered = next
                .events
                .into_iter()
                .zip(1..)
                .map(|(event, place)| Numbered::new(next.before + place as u64, place, event, next.record.clone()));
            self.ready.extend(numbered.filter(|event| event.seq > self.since));
        }
    }
}
