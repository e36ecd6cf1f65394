//! How checkpoints are kept as what changed, when a whole state is kept as well, and how one is read back.
//!
//! A checkpoint's row holds its **delta**: what its step changed against its parent, so a step costs what it wrote,
//! whatever the length of the thread. Now and then it holds a **snapshot** of the whole state instead, as does the row
//! of a checkpoint without a parent. Reading one starts at its **base**, the nearest snapshot on the way up its
//! parents, and applies the deltas from there.
//!
//! # When a snapshot is written
//!
//! In place of a delta, when the rows since the base, this one included, would hold as many bytes as the base itself and
//! at least [`SNAPSHOT_MIN`]. A row counts as its bytes and [`ROW_BYTES`] more, so this bounds the length of a chain too.
//!
//! # What that costs
//!
//! Let the rows since the base hold D bytes and the base S. A snapshot is due when D ≥ S, and is of at most S + D
//! bytes, as a state grows by no more than what is written to it. So it costs at most 2 D: **along any line of history
//! snapshots take at most twice the bytes of the rows**, and a thread that only appends writes two to three times what
//! was appended, in all. A state of 2 MB is written again after 2 MB of rows, not after some number of steps.
//!
//! Reading a checkpoint back takes at most 2 S bytes, in at most S / [`ROW_BYTES`] rows: a chain is long only where the
//! snapshot at its base is large, and then costs about as much to read as that.
//!
//! Forks count along their own line: several from one checkpoint may each write the snapshot that was due there. And
//! pruning writes a snapshot of the oldest that it keeps, so it is for now and then, not for every step.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{
    Value,
    checkpoint::{Change, CheckpointWrite},
    stream::Snapshot,
};
use serde::{Serialize, de::DeserializeOwned, ser::SerializeMap};

use crate::{Error, Result};

/// The deltas since a snapshot are at least of so many bytes before the next.
pub const SNAPSHOT_MIN: u64 = 16 * 1024;

/// What a row counts beside its own bytes: about what its ids, its times and its place in the index take.
pub const ROW_BYTES: u64 = 128;

/// The state of a checkpoint, by channel.
pub type State = BTreeMap<Arc<str>, Value>;

/// How far from its base a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The bytes of the base's state.
    pub base: u64,
    /// The bytes of the rows since the base, without it.
    pub since: u64,
}

impl Chain {
    /// The chain of a row that holds a snapshot of so many bytes.
    pub fn base(bytes: usize) -> Self {
        Self { base: bytes as u64, since: 0 }
    }

    /// One row further, of so many bytes.
    pub fn next(self, bytes: usize) -> Self {
        Self { since: self.since + bytes as u64 + ROW_BYTES, ..self }
    }

    /// True where a snapshot is due at the end of this chain.
    pub fn snapshot_due(self) -> bool {
        self.since >= self.base.max(SNAPSHOT_MIN)
    }
}

/// Applies what a step changed.
pub fn apply(state: &mut State, changes: &[(Arc<str>, Change)]) -> Result<()> {
    for (channel, change) in changes {
        let after = change
            .apply(state.get(channel))
            .map_err(|error| Error::Corrupt(format!("channel `{channel}`: {error}")))?;
        match after {
            Some(value) => state.insert(channel.clone(), value),
            None => state.remove(channel),
        };
    }
    Ok(())
}

/// The channels of a snapshot that hold something.
pub fn state_of(snapshot: &Snapshot) -> State {
    snapshot.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The bytes of what a step changed.
pub fn encode_changes(write: &CheckpointWrite) -> Result<String> {
    let has_patch = write.changes.iter().any(|(_, change)| matches!(change, Change::Patch(_)));
    if has_patch { encode(&Versioned { version: PATCHES, changes: &write.changes }) } else { encode(&write.changes) }
}

/// Reads back what [`encode_changes`] wrote, in any of its versions.
pub fn decode_changes(json: &[u8]) -> Result<Vec<(Arc<str>, Change)>> {
    if json.first() == Some(&b'[') {
        return decode(json);
    }
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    match decode::<Version>(json)?.version {
        PATCHES => Ok(decode::<Versioned<Vec<(Arc<str>, Change)>>>(json)?.changes),
        later => Err(Error::Corrupt(format!(
            "a checkpoint's changes have version {later}, and this release reads up to {PATCHES}: a later release wrote \
             them, start that one"
        ))),
    }
}

/// The version of changes that hold patches. Version 1 is a bare list: changes without patches are still written so, and
/// every earlier release reads them.
const PATCHES: u32 = 2;

#[derive(Serialize, serde::Deserialize)]
struct Versioned<C> {
    version: u32,
    changes: C,
}

/// The bytes of a whole state.
pub fn encode_state<'a>(state: impl Iterator<Item = (&'a Arc<str>, &'a Value)>) -> Result<String> {
    struct Fields<I>(std::cell::RefCell<I>);
    impl<'a, I: Iterator<Item = (&'a Arc<str>, &'a Value)>> Serialize for Fields<I> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            let mut map = s.serialize_map(None)?;
            for (name, value) in &mut *self.0.borrow_mut() {
                map.serialize_entry(&**name, value)?;
            }
            map.end()
        }
    }
    encode(&Fields(state.into()))
}

/// The JSON of anything that is kept.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Invalid(format!("it cannot be kept as JSON: {error}")))
}

/// Reads back what [`encode`] wrote. What wraps a value adds to its depth, so the parser's own limit is off: the
/// engine's stood in the way when it was written.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader).map_err(|error| Error::Corrupt(format!("JSON of {} bytes: {error}", json.len())))
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn a_snapshot_is_due_by_bytes_and_so_by_rows() {
        let small = Chain::base(100);
        assert!(!small.next(SNAPSHOT_MIN as usize - ROW_BYTES as usize - 1).snapshot_due());
        assert!(small.next(SNAPSHOT_MIN as usize - ROW_BYTES as usize).snapshot_due());
        let big = Chain::base(2_000_000);
        assert!(!big.next(1_900_000).snapshot_due());
        assert!(big.next(1_900_000).next(100_000).snapshot_due());
        let rows = (0..).scan(big, |chain, _| {
            *chain = chain.next(0);
            Some(*chain)
        });
        assert_eq!(rows.take_while(|chain| !chain.snapshot_due()).count() as u64, 2_000_000 / ROW_BYTES - 1);
    }

    #[test]
    fn snapshots_of_a_growing_list_take_at_most_twice_its_bytes() {
        let (mut deltas, mut snapshots, mut chain) = (0, 0, Chain::base(10));
        for row in 1..200_000 {
            chain = chain.next(200);
            deltas += 200 + ROW_BYTES;
            if chain.snapshot_due() {
                snapshots += 200 * row as u64;
                chain = Chain::base(200 * row);
            }
            assert!(snapshots <= 2 * deltas, "after {row} steps");
        }
    }

    #[test]
    fn the_deepest_value_reads_back_from_within_what_wraps_it() {
        let mut deep = value!("x");
        for _ in 0..runloom_engine::value::MAX_DEPTH {
            deep = Value::from(vec![deep]);
        }
        let changes: Vec<(Arc<str>, Change)> = vec![("a".into(), Change::Set(deep.clone()))];
        let back: Vec<(Arc<str>, Change)> = decode(encode(&changes).unwrap().as_bytes()).unwrap();
        assert_eq!(back, changes);
        let name: Arc<str> = "a".into();
        let state: Value = decode(encode_state([(&name, &deep)].into_iter()).unwrap().as_bytes()).unwrap();
        assert_eq!(state.get("a"), Some(&deep));
    }

    #[test]
    fn changes_have_versions_and_those_of_the_first_release_are_read() {
        let first = r#"[["a",{"set":{"x":1}}],["b",{"append":[2]}],["c",{"edit":[{"replace":[0,1]},{"push":2},{"remove":[3]}]}],["d","clear"]]"#;
        let changes = decode_changes(first.as_bytes()).unwrap();
        assert_eq!(changes.len(), 4);
        assert_eq!(encode(&changes).unwrap(), first);
        let second = r#"{"version":2,"changes":[["a",{"patch":[{"fields":{"set":[["x",{"set":2}]]}}]}]]}"#;
        let changes = decode_changes(second.as_bytes()).unwrap();
        assert_eq!(encode(&Versioned { version: PATCHES, changes: &changes }).unwrap(), second);
        let mut state = State::from([("a".into(), value!({"x": 1, "y": 1}))]);
        apply(&mut state, &changes).unwrap();
        assert_eq!(state["a"], value!({"x": 2, "y": 1}));
        let error = decode_changes(br#"{"version":3,"changes":7}"#).unwrap_err().to_string();
        assert!(error.contains("version 3"), "{error}");
    }
}
