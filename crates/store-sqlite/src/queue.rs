//! The queue of writes: in the order of the calls, bounded, taken by the writer all at once.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use runloom_store::{Error, Result};

/// How far past its bound writes that cannot wait may fill the queue, before they are refused.
const HARD: usize = 8;

/// Holds what is to be written. Each entry has a weight: its bytes, roughly.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    emptied: Notify,
    bound: usize,
}

struct State<T> {
    entries: Vec<T>,
    /// Of what waits, and of what was taken and is not done.
    weight: usize,
    closed: bool,
}

/// What the writer finds.
pub(crate) enum Taken<T> {
    /// All that had gathered, and its weight.
    Entries(Vec<T>, usize),
    /// Nothing for as long as it would wait.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

impl<T> Queue<T> {
    pub fn new(bound: usize) -> Self {
        let state = State { entries: Vec::new(), weight: 0, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Notify::new(), bound }
    }

    /// Puts an entry at the end, over the bound if need be, but not far over.
    pub fn push(&self, entry: T, weight: usize) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::stopped());
        }
        if state.weight > self.bound.saturating_mul(HARD) {
            return Err(Error::Unavailable("too many writes are waiting; the disk does not keep up".into()));
        }
        state.weight += weight;
        state.entries.push(entry);
        self.filled.notify_one();
        Ok(())
    }

    /// Resolves when the queue is within its bound.
    pub async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            {
                let state = self.state.lock();
                if state.weight < self.bound || state.closed {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Takes all there is; waits for something to come, for a time or for good.
    pub fn take(&self, wait: Option<Duration>) -> Taken<T> {
        let mut state = self.state.lock();
        while state.entries.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            match wait {
                None => self.filled.wait(&mut state),
                Some(wait) => {
                    if self.filled.wait_for(&mut state, wait).timed_out() && state.entries.is_empty() {
                        return if state.closed { Taken::Closed } else { Taken::Nothing };
                    }
                }
            }
        }
        let weight = state.weight;
        Taken::Entries(std::mem::take(&mut state.entries), weight)
    }

    /// Entries of this weight are done.
    pub fn done(&self, weight: usize) {
        let mut state = self.state.lock();
        state.weight -= weight.min(state.weight);
        drop(state);
        self.emptied.notify_waiters();
    }

    /// Takes no more; what is there is still taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_waiters();
    }

    /// Drops what is there, so that whoever waits for it learns that it was not written.
    pub fn abandon(&self) {
        self.close();
        let entries = std::mem::take(&mut self.state.lock().entries);
        drop(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_the_patient_wait_and_refuses_the_others_at_the_hard_bound() {
        let queue = Queue::new(10);
        for i in 0..9 {
            queue.push(i, 10).unwrap();
        }
        assert!(matches!(queue.push(9, 10), Err(Error::Unavailable(_))));
        let mut room = Box::pin(queue.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        let Taken::Entries(taken, weight) = queue.take(None) else { panic!("nothing there") };
        assert_eq!((taken, weight), ((0..9).collect(), 90));
        assert!(futures_util::poll!(&mut room).is_pending(), "what was taken is not done");
        queue.done(weight);
        assert!(futures_util::poll!(&mut room).is_ready());
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
        let queue = Queue::new(10);
        queue.push(1, 1).unwrap();
        queue.close();
        assert!(queue.push(2, 1).is_err());
        assert!(matches!(queue.take(None), Taken::Entries(..)));
        assert!(matches!(queue.take(None), Taken::Closed));
    }
}
