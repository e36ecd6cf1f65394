//! Lists and objects that share what they do not change.

use std::sync::Arc;

use imbl::Vector;
use indexmap::IndexMap;

use super::Value;

/// A list. Appending to one of any length copies at most a leaf of the tree it is kept in, even while others hold it.
#[derive(Clone, Default)]
pub struct List(Arc<ListInner>);

#[derive(Clone, Default)]
struct ListInner {
    depth: usize,
    /// See [`Value::weight`].
    weight: u64,
    items: Vector<Value>,
}

impl List {
    /// The number of items.
    pub fn len(&self) -> usize {
        self.0.items.len()
    }

    /// True without items.
    pub fn is_empty(&self) -> bool {
        self.0.items.is_empty()
    }

    /// The item at an index.
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.0.items.get(index)
    }

    /// The last item.
    pub fn last(&self) -> Option<&Value> {
        self.0.items.back()
    }

    /// The items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.0.items.iter()
    }

    /// The items from an index on, without walking those before.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = &Value> {
        let start = start.min(self.len());
        self.0.items.focus().narrow(start..).into_iter()
    }

    /// Appends an item.
    pub fn push(&mut self, item: Value) {
        let inner = Arc::make_mut(&mut self.0);
        inner.depth = inner.depth.max(item.depth() + 1);
        inner.weight = inner.weight.saturating_add(item.weight());
        inner.items.push_back(item);
    }

    /// Appends the items of another list, sharing them.
    pub fn append(&mut self, other: &List) {
        if self.is_empty() {
            *self = other.clone();
            return;
        }
        let inner = Arc::make_mut(&mut self.0);
        inner.depth = inner.depth.max(other.0.depth);
        inner.weight = inner.weight.saturating_add(other.0.weight);
        inner.items.extend(other.iter().cloned());
    }

    /// Puts another item in the place of one; `false` where the index is past the end.
    pub fn set(&mut self, index: usize, item: Value) -> bool {
        if index >= self.len() {
            return false;
        }
        let inner = Arc::make_mut(&mut self.0);
        inner.depth = inner.depth.max(item.depth() + 1);
        let weight = item.weight();
        let before = inner.items.set(index, item).weight();
        inner.weight = inner.weight.saturating_sub(before).saturating_add(weight);
        true
    }

    /// The first `len` items.
    pub fn truncated(&self, len: usize) -> List {
        if len >= self.len() {
            return self.clone();
        }
        let mut inner = (*self.0).clone();
        let gone = inner.items.split_off(len);
        inner.weight = gone.iter().fold(inner.weight, |w, v| w.saturating_sub(v.weight()));
        List(Arc::new(inner))
    }

    /// True where both are the very same list.
    pub fn same(&self, other: &List) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn depth(&self) -> usize {
        self.0.depth.max(1)
    }

    pub(super) fn weight(&self) -> u64 {
        self.0.weight.saturating_add(2)
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl FromIterator<Value> for List {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        let (mut depth, mut weight) = (1, 0u64);
        let items = items
            .into_iter()
            .inspect(|v| {
                depth = depth.max(v.depth() + 1);
                weight = weight.saturating_add(v.weight());
            })
            .collect();
        List(Arc::new(ListInner { depth, weight, items }))
    }
}

impl From<Vec<Value>> for List {
    fn from(items: Vec<Value>) -> Self {
        items.into_iter().collect()
    }
}

impl Extend<Value> for List {
    fn extend<I: IntoIterator<Item = Value>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

/// An object; its keys keep the order in which they came.
#[derive(Clone, Default)]
pub struct Object(Arc<ObjectInner>);

type Fields = IndexMap<Arc<str>, Value, foldhash::fast::RandomState>;

#[derive(Clone, Default)]
struct ObjectInner {
    depth: usize,
    weight: u64,
    fields: Fields,
}

impl Object {
    /// The number of fields.
    pub fn len(&self) -> usize {
        self.0.fields.len()
    }

    /// True without fields.
    pub fn is_empty(&self) -> bool {
        self.0.fields.is_empty()
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.fields.get(key)
    }

    /// A text field.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// True where the field is there, be it null.
    pub fn contains_key(&self, key: &str) -> bool {
        self.0.fields.contains_key(key)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Arc<str>, &Value)> + ExactSizeIterator {
        self.0.fields.iter()
    }

    /// The keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.0.fields.keys()
    }

    /// Sets a field; a known one keeps its place.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        let inner = Arc::make_mut(&mut self.0);
        inner.depth = inner.depth.max(value.depth() + 1);
        let weight = field_weight(&key, &value);
        let length = key.len() as u64;
        let before = inner.fields.insert(key, value).map_or(0, |v| v.weight().saturating_add(length + 4));
        inner.weight = inner.weight.saturating_sub(before).saturating_add(weight);
    }

    /// Takes a field away.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        if !self.contains_key(key) {
            return None;
        }
        let inner = Arc::make_mut(&mut self.0);
        let gone = inner.fields.shift_remove(key);
        let weight = gone.as_ref().map_or(0, |v| field_weight(key, v));
        inner.weight = inner.weight.saturating_sub(weight);
        gone
    }

    /// True where both are the very same object.
    pub fn same(&self, other: &Object) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn depth(&self) -> usize {
        self.0.depth.max(1)
    }

    pub(super) fn weight(&self) -> u64 {
        self.0.weight.saturating_add(2)
    }
}

/// About the bytes of `"key":value,`.
fn field_weight(key: &str, value: &Value) -> u64 {
    value.weight().saturating_add(key.len() as u64 + 4)
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.0.fields == other.0.fields
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let (mut depth, mut weight) = (1, 0u64);
        let fields = fields
            .into_iter()
            .map(|(k, v)| {
                let (k, v) = (k.into(), v.into());
                depth = depth.max(v.depth() + 1);
                weight = weight.saturating_add(field_weight(&k, &v));
                (k, v)
            })
            .collect();
        Object(Arc::new(ObjectInner { depth, weight, fields }))
    }
}
