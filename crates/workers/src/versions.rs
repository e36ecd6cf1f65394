//! Channel values that a worker has, so that a task is sent what changed.

use std::{collections::HashMap, sync::Arc};

use runloom_engine::{List, ThreadId, Value, stream::Snapshot};
use uuid::Uuid;

/// Values of less than this, as JSON, are sent whole and are not remembered.
const MIN_BYTES: u64 = 256;
/// How many bytes of values are remembered for a worker, about: those sent last.
const MAX_BYTES: u64 = 64 << 20;
/// How many values are remembered for a worker.
const MAX_VALUES: usize = 4_096;

/// A value of a channel for a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelState {
    /// The channel.
    pub channel: Arc<str>,
    /// The version of this value; empty where the worker need not cache it.
    pub version: String,
    /// The value, or how it is made from one that the worker has.
    pub value: ChannelValue,
}

/// A value, or how it is made.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelValue {
    /// The whole value.
    Whole(Value),
    /// The worker has this version.
    Unchanged,
    /// Another version of the list, cut to a length and extended.
    Appended {
        /// That version.
        base: String,
        /// How many items of it remain.
        keep: usize,
        /// The items after them.
        items: List,
    },
}

type Key = (Option<ThreadId>, Arc<str>, Arc<str>);

/// What a worker has, as far as the server remembers. One for each connection.
pub struct Versions {
    /// Makes versions of this connection unlike those of every other.
    prefix: String,
    known: HashMap<Key, Known>,
    bytes: u64,
    count: u64,
}

struct Known {
    version: u64,
    value: Value,
    used: u64,
}

impl Default for Versions {
    fn default() -> Self {
        let prefix = Uuid::new_v4().simple().to_string();
        Self { prefix: prefix[..12].to_owned(), known: HashMap::new(), bytes: 0, count: 0 }
    }
}

impl Versions {
    /// The channels of a state, as what changed since the worker was sent them.
    pub fn state(&mut self, thread: Option<ThreadId>, namespace: &Arc<str>, state: &Snapshot) -> Vec<ChannelState> {
        state.iter().map(|(channel, value)| self.channel(thread, namespace, channel, value)).collect()
    }

    /// The channels of a state, each whole.
    pub fn whole(state: &Snapshot) -> Vec<ChannelState> {
        let whole = |(channel, value): (&Arc<str>, &Value)| ChannelState {
            channel: channel.clone(),
            version: String::new(),
            value: ChannelValue::Whole(value.clone()),
        };
        state.iter().map(whole).collect()
    }

    fn channel(
        &mut self,
        thread: Option<ThreadId>,
        namespace: &Arc<str>,
        channel: &Arc<str>,
        value: &Value,
    ) -> ChannelState {
        let weight = value.weight();
        let sent = |version, value| ChannelState { channel: channel.clone(), version, value };
        if !(MIN_BYTES..=MAX_BYTES).contains(&weight) {
            return sent(String::new(), ChannelValue::Whole(value.clone()));
        }
        self.count += 1;
        let used = self.count;
        let key = (thread, namespace.clone(), channel.clone());
        let difference = match self.known.get_mut(&key) {
            Some(known) if known.value == *value => {
                known.used = used;
                return sent(format!("{}-{}", self.prefix, known.version), ChannelValue::Unchanged);
            }
            Some(known) => appended(&known.value, value).map(|(keep, items)| ChannelValue::Appended {
                base: format!("{}-{}", self.prefix, known.version),
                keep,
                items,
            }),
            None => None,
        };
        let known = Known { version: used, value: value.clone(), used };
        if let Some(before) = self.known.insert(key, known) {
            self.bytes = self.bytes.saturating_sub(before.value.weight());
        }
        self.bytes += weight;
        if self.bytes > MAX_BYTES || self.known.len() > MAX_VALUES {
            self.forget();
        }
        let value = difference.unwrap_or_else(|| ChannelValue::Whole(value.clone()));
        sent(format!("{}-{used}", self.prefix), value)
    }

    /// Forgets the half that was used longest ago.
    fn forget(&mut self) {
        let mut uses: Vec<u64> = self.known.values().map(|known| known.used).collect();
        uses.sort_unstable();
        let from = uses[uses.len() / 2];
        self.known.retain(|_, known| known.used >= from && known.used > 0);
        self.bytes = self.known.values().map(|known| known.value.weight()).sum();
    }
}

/// What has to be appended to a part of a list to make another one, if that is less than half of it.
fn appended(before: &Value, after: &Value) -> Option<(usize, List)> {
    let (Value::List(before), Value::List(after)) = (before, after) else { return None };
    let keep = before.iter().zip(after.iter()).take_while(|(a, b)| a == b).count();
    let items: List = after.iter_from(keep).cloned().collect();
    let all = after.iter().map(Value::weight).sum::<u64>();
    (keep > 0 && Value::List(items.clone()).weight() * 2 < all).then_some((keep, items))
}
