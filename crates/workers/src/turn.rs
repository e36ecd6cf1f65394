//! Whose turn it is to ask: calls that run side by side number their questions in the order of the calls, so that each gets
//! its own answers when the node runs again.

use tokio::sync::watch;

/// The calls of a step: how many have ended, from the first on, and whether one has stopped the step.
#[derive(Debug)]
pub struct Turns {
    ended: Vec<bool>,
    state: watch::Sender<(usize, bool)>,
}

/// The place of one call.
#[derive(Clone, Debug)]
pub struct Turn {
    place: usize,
    state: watch::Receiver<(usize, bool)>,
}

impl Turns {
    /// Of so many calls.
    pub fn new(calls: usize) -> Self {
        Self { ended: vec![false; calls], state: watch::Sender::new((0, false)) }
    }

    /// The place of a call.
    pub fn place(&self, place: usize) -> Turn {
        Turn { place, state: self.state.subscribe() }
    }

    /// A call has ended; `stops` where it asks, or fails the node.
    pub fn end(&mut self, place: usize, stops: bool) {
        self.ended[place] = true;
        let first = self.ended.iter().take_while(|ended| **ended).count();
        self.state.send_modify(|(ended, stopped)| {
            *ended = first;
            *stopped |= stops;
        });
    }
}

impl Turn {
    /// Waits until all calls before this one have ended. False where one of the calls has stopped the step: nothing more is
    /// asked.
    pub async fn wait(&mut self) -> bool {
        let place = self.place;
        match self.state.wait_for(|(ended, stopped)| *stopped || *ended >= place).await {
            Ok(state) => !state.1,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn questions_are_asked_in_the_order_of_the_calls() {
        let mut turns = Turns::new(3);
        let (mut first, mut last) = (turns.place(0), turns.place(2));
        assert_eq!(first.wait().now_or_never(), Some(true));
        turns.end(1, false);
        assert_eq!(last.wait().now_or_never(), None);
        turns.end(0, false);
        assert_eq!(last.wait().now_or_never(), Some(true));
        turns.end(0, true);
        assert_eq!(last.wait().now_or_never(), Some(false));
    }
}
