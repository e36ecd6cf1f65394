//! The parts that a run has told and its reader has not yet taken.

use std::{collections::VecDeque, task::Waker};

use parking_lot::Mutex;

use super::Part;

/// Between a run and the one who pulls it. The run goes only while it is pulled, so the queue holds what one poll makes.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    parts: VecDeque<Part>,
    /// The reader that waits: set only while it is not polling, so that a run polled by it wakes nobody.
    waiting: Option<Waker>,
}

impl Queue {
    pub fn push(&self, part: Part) {
        let waiting = {
            let mut inner = self.inner.lock();
            inner.parts.push_back(part);
            inner.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub fn pop(&self) -> Option<Part> {
        self.inner.lock().parts.pop_front()
    }

    /// How many parts wait to be taken.
    pub fn len(&self) -> usize {
        self.inner.lock().parts.len()
    }

    /// Registers the reader, unless something came meanwhile: then that is returned.
    pub fn pop_or_wait(&self, waker: &Waker) -> Option<Part> {
        let mut inner = self.inner.lock();
        let part = inner.parts.pop_front();
        if part.is_none() {
            inner.waiting = Some(waker.clone());
        }
        part
    }

    /// The reader polls again, and looks for itself.
    pub fn no_longer_waiting(&self) {
        self.inner.lock().waiting = None;
    }
}
