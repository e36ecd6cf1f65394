//! A map of bounded size: the oldest entries make room for new ones.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// A map of the entries that were inserted last.
pub(crate) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// In the order of insertion; entries that were removed or replaced since are skipped by their number.
    order: VecDeque<(u64, K)>,
    next: u64,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), next: 0, capacity }
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.next += 1;
        self.order.push_back((self.next, key.clone()));
        self.entries.insert(key, (self.next, value));
        while self.order.len() > self.capacity {
            let Some((number, key)) = self.order.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|(current, _)| *current == number) {
                self.entries.remove(&key);
            }
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut recent = Recent::new(3);
        for n in 0..5 {
            recent.insert(n, n);
        }
        assert_eq!((0..5).filter_map(|n| recent.get(&n).copied()).collect::<Vec<_>>(), [2, 3, 4]);
        // Inserted again, an entry is young; removed ones are not found.
        recent.insert(2, 20);
        recent.remove(&3);
        recent.insert(6, 6);
        assert_eq!((0..7).filter_map(|n| recent.get(&n).copied()).collect::<Vec<_>>(), [20, 4, 6]);
    }
}
