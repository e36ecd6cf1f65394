//! Payloads that several readers of a run want, encoded once for all of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use runloom::{json::NotExact, v1::JsonEncoding};
use runloom_engine::RunId;

/// A payload with its tag, or why it could not be encoded.
pub(crate) type Encoded = Result<Bytes, NotExact>;

/// How much is kept for each run that has several readers. One that falls behind encodes for itself.
const MAX_ENTRIES: usize = 256;
const MAX_BYTES: usize = 16 << 20;

/// The runs that are read now.
#[derive(Default)]
pub(crate) struct Sharing {
    runs: Mutex<HashMap<RunId, Weak<Shared>>>,
}

/// What the readers of one run share. Held by each of them; with the last one it goes.
pub(crate) struct Shared {
    sharing: Weak<Sharing>,
    run: RunId,
    kept: Mutex<Kept>,
}

/// The number of a record, and the encoding of its JSON.
type Key = (u64, i32);

#[derive(Default)]
struct Kept {
    entries: VecDeque<(Key, Arc<OnceLock<Encoded>>)>,
    bytes: usize,
}

impl Sharing {
    /// What the readers of a run share, for one more of them.
    pub fn join(self: &Arc<Self>, run: RunId) -> Arc<Shared> {
        let mut runs = self.runs.lock();
        if let Some(shared) = runs.get(&run).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Shared { sharing: Arc::downgrade(self), run, kept: Mutex::default() });
        runs.insert(run, Arc::downgrade(&shared));
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(sharing) = self.sharing.upgrade() else { return };
        let mut runs = sharing.runs.lock();
        // A new one may be in its place already.
        if runs.get(&self.run).is_some_and(|shared| shared.strong_count() == 0) {
            runs.remove(&self.run);
        }
    }
}

impl Shared {
    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Whether anybody else reads the run.
    pub fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// The payload of a number in an encoding, made by the first who asks.
    pub fn get(&self, seq: u64, encoding: JsonEncoding, make: impl FnOnce() -> Encoded) -> Encoded {
        let key: Key = (seq, encoding as i32);
        let slot = {
            let mut kept = self.kept.lock();
            // Readers that keep up ask for what came last.
            match kept.entries.iter().rev().find(|(k, _)| *k == key) {
                Some((_, slot)) => slot.clone(),
                None => {
                    let slot = Arc::new(OnceLock::new());
                    kept.entries.push_back((key, slot.clone()));
                    slot
                }
            }
        };
        let mut is_new = false;
        let encoded = slot.get_or_init(|| {
            is_new = true;
            make()
        });
        if is_new {
            let mut kept = self.kept.lock();
            // Unless it was let go of meanwhile.
            if kept.entries.iter().rev().any(|(_, kept)| Arc::ptr_eq(kept, &slot)) {
                kept.bytes += len(encoded);
            }
            while kept.entries.len() > MAX_ENTRIES || (kept.bytes > MAX_BYTES && kept.entries.len() > 1) {
                let Some((_, oldest)) = kept.entries.pop_front() else { break };
                kept.bytes = kept.bytes.saturating_sub(oldest.get().map_or(0, len));
            }
        }
        encoded.clone()
    }
}

fn len(encoded: &Encoded) -> usize {
    encoded.as_ref().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use runloom_engine::RunId;

    use super::*;

    fn of(size: usize) -> Encoded {
        Ok(vec![7; size].into())
    }

    #[test]
    fn what_several_want_is_made_once() {
        let sharing = Arc::new(Sharing::default());
        let run = RunId(uuid::Uuid::now_v7());
        let a = sharing.join(run);
        assert!(!a.is_shared());
        let b = sharing.join(run);
        assert!(a.is_shared() && Arc::ptr_eq(&a, &b));
        let first = a.get(1, JsonEncoding::Text, || of(3)).unwrap();
        let second = b.get(1, JsonEncoding::Text, || panic!("made twice")).unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(b.get(1, JsonEncoding::Value, || Err(NotExact::Depth)), Err(NotExact::Depth));
        assert_eq!(a.get(1, JsonEncoding::Value, || panic!("made twice")), Err(NotExact::Depth));
        drop((a, b));
        assert!(sharing.runs.lock().is_empty(), "what nobody reads is not kept");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let sharing = Arc::new(Sharing::default());
        let shared = sharing.join(RunId(uuid::Uuid::now_v7()));
        for seq in 1..=1000 {
            shared.get(seq, JsonEncoding::Text, || of(1)).unwrap();
        }
        assert_eq!(shared.kept.lock().entries.len(), MAX_ENTRIES);
        for seq in 1001..=1010 {
            shared.get(seq, JsonEncoding::Text, || of(5 << 20)).unwrap();
        }
        let kept = shared.kept.lock();
        assert!(kept.bytes <= MAX_BYTES, "{}", kept.bytes);
        assert_eq!(kept.bytes, kept.entries.iter().map(|(_, slot)| len(slot.get().unwrap())).sum::<usize>());
    }
}
