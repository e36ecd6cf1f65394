//! Unary answers no larger than their caller takes: user data is left out and said so, and pages end early.

use prost::Message;
use runloom::v1::{
    Assistant, Checkpoint, CheckpointRef, Cron, ErrorReason, Interrupt, Item, Omission, Run, Thread, WaitRunResponse,
    run_spec,
};

/// The largest message that a caller takes where it does not say: the default of gRPC libraries.
pub(crate) const DEFAULT_BYTES: u32 = 4 << 20;
/// What an answer has around its resources: the page token, and the framing of its fields.
const RESERVED: usize = 1 << 10;

/// A resource whose user data can be left out, in stages.
pub(crate) trait Omit: Message {
    /// Removes the data of a stage; 0 is what a caller misses least, or what is largest.
    fn omit(&mut self, stage: usize);

    /// How many stages there are.
    const STAGES: usize;

    /// Where the field `omitted` is.
    fn omitted(&mut self) -> &mut Option<Omission>;

    /// The checkpoint that holds what is left out, where one does.
    fn held_by(&self) -> Option<CheckpointRef> {
        None
    }
}

/// The largest answer that a caller takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(usize);

impl Limit {
    /// Of a request's `max_part_bytes`; 0 is the default.
    pub fn of(max_part_bytes: u32) -> Self {
        let bytes = if max_part_bytes == 0 { DEFAULT_BYTES } else { max_part_bytes };
        Self((bytes as usize).saturating_sub(RESERVED))
    }

    /// Leaves out as much of a resource as it takes to fit.
    pub fn fit<T: Omit>(self, mut resource: T) -> T {
        self.shrink(&mut resource, self.0);
        resource
    }

    /// Fits each of several resources of one answer, and then all of them together: the largest lose their data first.
    pub fn fit_all<T: Omit>(self, resources: &mut [T]) {
        for resource in &mut *resources {
            self.shrink(resource, self.0);
        }
        let mut sizes: Vec<_> = resources.iter().map(field_len).collect();
        let mut total: usize = sizes.iter().sum();
        while total > self.0 {
            let Some((at, _)) = sizes.iter().enumerate().max_by_key(|(_, size)| **size) else { return };
            let before = sizes[at];
            self.shrink(&mut resources[at], 0);
            total -= before - field_len(&resources[at]).min(before);
            // Zero excludes it from the next search; its bytes stay counted in the total.
            sizes[at] = 0;
            if before == 0 {
                return;
            }
        }
    }

    /// Fits each item of a page, and says how many of them fit together, where it is not all of them: at least one.
    pub fn fit_page<T: Omit>(self, items: &mut [T]) -> Option<usize> {
        let mut room = self.page();
        items.iter_mut().position(|item| !room.admit(item))
    }

    /// An empty page.
    pub fn page(self) -> PageRoom {
        PageRoom { limit: self, used: 0 }
    }

    fn shrink<T: Omit>(self, resource: &mut T, most: usize) {
        let size = resource.encoded_len();
        if size <= most {
            return;
        }
        let omission = Omission {
            reason: ErrorReason::PartTooLarge.into(),
            message: format!("{size} bytes, and the caller takes {}; max_part_bytes sets the limit", self.0 + RESERVED),
            checkpoint: resource.held_by(),
            size_bytes: size as u64,
        };
        resource.omitted().get_or_insert(omission);
        for stage in 0..T::STAGES {
            resource.omit(stage);
            if resource.encoded_len() <= most {
                return;
            }
        }
    }
}

/// The room on a page, as items come.
pub(crate) struct PageRoom {
    limit: Limit,
    used: usize,
}

impl PageRoom {
    /// Fits an item, and says whether it fits on the page with those before it. The first one always does.
    pub fn admit<T: Omit>(&mut self, item: &mut T) -> bool {
        self.limit.shrink(item, self.limit.0);
        let is_first = self.used == 0;
        self.used += field_len(item);
        is_first || self.used <= self.limit.0
    }
}

/// The size of a message as a field of another one.
fn field_len<T: Message>(message: &T) -> usize {
    let len = message.encoded_len();
    1 + prost::length_delimiter_len(len) + len
}

fn without_values(interrupts: &mut [Interrupt]) {
    for interrupt in interrupts {
        interrupt.value = None;
        interrupt.response_schema = None;
    }
}

impl Omit for Run {
    const STAGES: usize = 2;

    fn omit(&mut self, stage: usize) {
        match stage {
            0 => self.metadata = None,
            _ => {
                if let Some(error) = &mut self.error {
                    error.details.clear();
                }
            }
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }
}

impl Omit for WaitRunResponse {
    const STAGES: usize = 3;

    fn omit(&mut self, stage: usize) {
        match stage {
            0 => self.values = None,
            1 => {
                without_values(&mut self.interrupts);
                if let Some(end) = &mut self.end {
                    without_values(&mut end.interrupts);
                }
                if let Some(run) = &mut self.run {
                    run.metadata = None;
                }
            }
            _ => {
                self.interrupts.clear();
                if let Some(end) = &mut self.end {
                    end.interrupts.clear();
                }
            }
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }

    fn held_by(&self) -> Option<CheckpointRef> {
        let checkpoint_id = self.end.as_ref().map(|end| end.checkpoint_id.clone()).filter(|id| !id.is_empty())?;
        Some(CheckpointRef { checkpoint_id, namespace: Vec::new() })
    }
}

impl Omit for Thread {
    const STAGES: usize = 3;

    fn omit(&mut self, stage: usize) {
        match stage {
            0 => self.values = None,
            1 => {
                without_values(&mut self.interrupts);
                self.metadata = None;
            }
            _ => self.interrupts.clear(),
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }
}

impl Omit for Checkpoint {
    const STAGES: usize = 3;

    fn omit(&mut self, stage: usize) {
        match stage {
            0 => {
                self.values = None;
                self.tasks.iter_mut().for_each(|task| task.result = None);
            }
            1 => {
                self.metadata = None;
                without_values(&mut self.interrupts);
                self.tasks.iter_mut().for_each(|task| without_values(&mut task.interrupts));
            }
            _ => {
                self.tasks.clear();
                self.interrupts.clear();
                self.next.clear();
            }
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }

    fn held_by(&self) -> Option<CheckpointRef> {
        Some(CheckpointRef { checkpoint_id: self.checkpoint_id.clone(), namespace: self.namespace.clone() })
    }
}

impl Omit for Item {
    const STAGES: usize = 1;

    fn omit(&mut self, _: usize) {
        self.value = None;
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }
}

impl Omit for Assistant {
    const STAGES: usize = 2;

    fn omit(&mut self, stage: usize) {
        match stage {
            0 => (self.context, self.metadata) = (None, None),
            _ => self.config = None,
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }
}

impl Omit for Cron {
    const STAGES: usize = 2;

    fn omit(&mut self, stage: usize) {
        match (stage, &mut self.run) {
            (0, run) => {
                self.metadata = None;
                if let Some(run) = run {
                    (run.context, run.metadata) = (None, None);
                    if matches!(run.start, Some(run_spec::Start::Input(_))) {
                        run.start = None;
                    }
                }
            }
            _ => self.run = None,
        }
    }

    fn omitted(&mut self) -> &mut Option<Omission> {
        &mut self.omitted
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::Json;
    use serde_json::json;

    use super::*;

    fn json(bytes: usize) -> Option<Json> {
        Some(Json::text(&json!({ "text": "x".repeat(bytes) })))
    }

    fn thread(values: usize, question: usize) -> Thread {
        let interrupt = Interrupt { id: "q".into(), value: json(question), ..Interrupt::default() };
        Thread { thread_id: "t".into(), values: json(values), interrupts: vec![interrupt], ..Thread::default() }
    }

    #[test]
    fn data_goes_in_stages_and_only_as_far_as_needed() {
        let limit = Limit::of(10_000);
        let whole = limit.fit(thread(100, 100));
        assert!(whole.omitted.is_none() && whole.values.is_some());
        let no_state = limit.fit(thread(20_000, 100));
        assert!(no_state.values.is_none() && no_state.interrupts[0].value.is_some());
        let omitted = no_state.omitted.unwrap();
        assert_eq!(omitted.reason(), ErrorReason::PartTooLarge);
        assert!(omitted.size_bytes > 20_000 && omitted.message.contains("max_part_bytes"), "{omitted:?}");
        let no_question = limit.fit(thread(10, 20_000));
        assert!(no_question.interrupts[0].value.is_none() && no_question.interrupts[0].id == "q");
    }

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        let limit = Limit::of(10_000);
        let page = |sizes: &[usize]| sizes.iter().map(|size| thread(*size, 1)).collect::<Vec<_>>();
        assert_eq!(limit.fit_page(&mut page(&[4_000, 4_000])), None);
        assert_eq!(limit.fit_page(&mut page(&[4_000, 4_000, 4_000])), Some(2));
        let mut large = page(&[90_000, 8_000, 8_000]);
        assert_eq!(limit.fit_page(&mut large), Some(2));
        assert!(large[0].omitted.is_some() && large[1].omitted.is_none());
        assert_eq!(limit.fit_page(&mut page(&[8_500, 8_500])), Some(1));
    }

    #[test]
    fn of_several_the_largest_lose_their_data() {
        let mut all = vec![thread(1_000, 1), thread(6_000, 1), thread(5_000, 1)];
        Limit::of(10_000).fit_all(&mut all);
        let left_out: Vec<_> = all.iter().map(|thread| thread.omitted.is_some()).collect();
        assert_eq!(left_out, [false, true, false]);
        let mut many = vec![thread(400, 1); 100];
        Limit::of(10_000).fit_all(&mut many);
        assert!(many.iter().map(Message::encoded_len).sum::<usize>() < 10_000 + 100 * 150);
    }

    #[test]
    fn tiny_limits_are_no_panic() {
        let fitted = Limit::of(1).fit(thread(10, 10));
        assert!(fitted.omitted.is_some() && fitted.interrupts.is_empty());
    }
}
