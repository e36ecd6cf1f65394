//! The tasks that wait for a worker of one queue, fair between runs.
//!
//! Start-time fair queuing: each task has a tag, one more than that of its run's previous task, and no less than the queue's
//! time, which is the tag served last. The lowest tag is served first. A run with one task is served after at most one task
//! of each other run, however many they have waiting.

use std::collections::{BTreeMap, HashMap};

use runloom_engine::RunId;
use tokio::time::Instant;

use crate::types::{Lane, Token};

/// A place in a queue: its tag, and a number that keeps the order of arrival.
pub(crate) type Tag = (u64, u64);

/// The tasks that wait, by handler.
#[derive(Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<Lane, BTreeMap<Tag, Waiting>>,
    runs: HashMap<RunId, Run>,
    time: u64,
    arrivals: u64,
    waiting: usize,
}

struct Waiting {
    token: Token,
    run: RunId,
    since: Instant,
}

#[derive(Default)]
struct Run {
    last: u64,
    waiting: usize,
}

impl Queue {
    /// Adds a task.
    pub fn push(&mut self, lane: &Lane, run: RunId, token: Token, now: Instant) -> Tag {
        let entry = self.runs.entry(run).or_default();
        entry.last = entry.last.max(self.time) + 1;
        entry.waiting += 1;
        self.arrivals += 1;
        self.waiting += 1;
        let tag = (entry.last, self.arrivals);
        self.lanes.entry(lane.clone()).or_default().insert(tag, Waiting { token, run, since: now });
        tag
    }

    /// Takes the next task for one of these handlers.
    pub fn pop(&mut self, can: impl Fn(&Lane) -> bool) -> Option<Token> {
        let heads = self.lanes.iter().filter(|(lane, _)| can(lane));
        let (lane, tag) = heads
            .filter_map(|(lane, tasks)| Some((lane, *tasks.first_key_value()?.0)))
            .min_by_key(|(_, tag)| *tag)
            .map(|(lane, tag)| (lane.clone(), tag))?;
        self.time = self.time.max(tag.0);
        self.remove(&lane, tag)
    }

    /// Takes a task away.
    pub fn remove(&mut self, lane: &Lane, tag: Tag) -> Option<Token> {
        let tasks = self.lanes.get_mut(lane)?;
        let task = tasks.remove(&tag)?;
        if tasks.is_empty() {
            self.lanes.remove(lane);
        }
        self.waiting -= 1;
        if let Some(run) = self.runs.get_mut(&task.run) {
            run.waiting -= 1;
            if run.waiting == 0 {
                self.runs.remove(&task.run);
            }
        }
        Some(task.token)
    }

    /// How many tasks wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Since when the oldest waits.
    pub fn oldest(&self) -> Option<Instant> {
        self.lanes.values().flat_map(|tasks| tasks.values()).map(|task| task.since).min()
    }

    /// The handlers for which tasks wait.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::HandlerKind;

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn lane(name: &str) -> Lane {
        (HandlerKind::Node, name.into())
    }

    struct Fill {
        queue: Queue,
        names: HashMap<Token, String>,
    }

    impl Fill {
        fn push(&mut self, handler: &str, of: u128, name: &str) -> Tag {
            let token = Token::random();
            self.names.insert(token, name.to_owned());
            self.queue.push(&lane(handler), run(of), token, Instant::now())
        }

        fn pop(&mut self, handlers: &[&str]) -> Option<String> {
            self.queue.pop(|(_, name)| handlers.contains(&&**name)).map(|token| self.names[&token].clone())
        }
    }

    fn fill() -> Fill {
        Fill { queue: Queue::default(), names: HashMap::new() }
    }

    #[test]
    fn runs_take_turns() {
        let mut fill = fill();
        for n in 0..4 {
            fill.push("a", 1, &format!("one {n}"));
        }
        assert_eq!(fill.pop(&["a"]).as_deref(), Some("one 0"));
        // A run that arrives later does not wait for all of the first.
        for n in 0..2 {
            fill.push("a", 2, &format!("two {n}"));
        }
        let order: Vec<String> = std::iter::from_fn(|| fill.pop(&["a"])).collect();
        assert_eq!(order, ["one 1", "two 0", "one 2", "two 1", "one 3"]);
    }

    #[test]
    fn a_run_that_is_served_often_does_not_fall_behind_for_it() {
        let mut fill = fill();
        for n in 0..100 {
            fill.push("a", 1, &n.to_string());
            assert!(fill.pop(&["a"]).is_some());
        }
        fill.push("a", 1, "busy");
        fill.push("a", 2, "new");
        assert_eq!(fill.pop(&["a"]).as_deref(), Some("busy"));
    }

    #[test]
    fn a_worker_gets_what_it_can_do() {
        let mut fill = fill();
        fill.push("a", 1, "a");
        fill.push("b", 1, "b");
        assert_eq!(fill.pop(&["b"]).as_deref(), Some("b"));
        assert_eq!(fill.pop(&["b"]), None);
        assert_eq!(fill.queue.lanes().collect::<Vec<_>>(), [&lane("a")]);
    }

    #[test]
    fn what_is_taken_away_is_gone() {
        let mut fill = fill();
        let tag = fill.push("a", 1, "first");
        fill.push("a", 1, "second");
        assert!(fill.queue.remove(&lane("a"), tag).is_some());
        assert!(fill.queue.remove(&lane("a"), tag).is_none());
        assert_eq!(fill.queue.len(), 1);
        assert_eq!(fill.pop(&["a"]).as_deref(), Some("second"));
        assert!(fill.queue.oldest().is_none() && fill.queue.runs.is_empty());
    }
}
