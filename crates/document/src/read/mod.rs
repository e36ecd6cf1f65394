//! Reading a document: every part looked at, every fault noted with its place, and the reading goes on.

pub(crate) mod edges;
pub(crate) mod given;
mod http;
mod mcp;
pub(crate) mod models;
pub(crate) mod nodes;
pub(crate) mod policies;
pub(crate) mod provider;
mod retrievers;
pub(crate) mod state;
pub(crate) mod steps;
pub(crate) mod subgraph;
pub(crate) mod tools;
mod worker;

use std::sync::Arc;

use runloom_engine::Value;

use crate::{
    error::Problem,
    suggest::or_known,
    tree::{At, Data, Key, Tree},
};

/// Reads one document, and gathers what is wrong with it.
pub(crate) struct Reader<'a> {
    pub file: &'a Arc<str>,
    pub text: &'a str,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Fields of the state that expressions read and no channel has, with a warning to be finished.
    pub strangers: Vec<(Arc<str>, Problem)>,
    /// Whether a route or a command may send a node an input of its own.
    pub may_send: bool,
    /// The nodes that commands are written to go to.
    pub gone_to: Vec<Arc<str>>,
    /// Where in the document, outermost first.
    place: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a Arc<str>, text: &'a str) -> Self {
        Self {
            file,
            text,
            problems: Vec::new(),
            warnings: Vec::new(),
            strangers: Vec::new(),
            may_send: false,
            gone_to: Vec::new(),
            place: Vec::new(),
        }
    }

    /// Reads a part under a name that its faults carry.
    pub fn within<T>(&mut self, place: impl Into<String>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(place.into());
        let result = read(self);
        self.place.pop();
        result
    }

    fn note(&self, at: At, message: String) -> Problem {
        Problem { file: self.file.clone(), line: at.line, column: at.column, place: self.place.join(", "), message }
    }

    /// Notes a fault.
    pub fn fault(&mut self, at: At, message: impl Into<String>) {
        let problem = self.note(at, message.into());
        self.problems.push(problem);
    }

    /// Notes what looks wrong.
    pub fn warn(&mut self, at: At, message: impl Into<String>) {
        let problem = self.note(at, message.into());
        self.warnings.push(problem);
    }

    /// The fields of a map, of which only these may be there.
    pub fn fields<'t>(&mut self, tree: &'t Tree, known: &[&str]) -> Fields<'t> {
        let all = self.entries(tree);
        for (key, _) in all.iter().filter(|(k, _)| !known.contains(&&*k.name)) {
            let near = or_known(&key.name, known.iter().copied());
            self.fault(key.at, format!("there is no `{}` here{near}", key.name));
        }
        Fields { all, at: tree.at }
    }

    /// A field that is there, read under its name.
    pub fn field<'t, T>(
        &mut self,
        fields: &Fields<'t>,
        name: &str,
        read: impl FnOnce(&mut Self, &'t Tree) -> Option<T>,
    ) -> Option<T> {
        let tree = fields.get(name)?;
        self.within(name, |r| read(r, tree))
    }

    /// The entries of a map with free keys.
    pub fn entries<'t>(&mut self, tree: &'t Tree) -> &'t [(Key, Tree)] {
        match &tree.data {
            Data::Map(fields) => fields,
            _ => {
                self.fault(tree.at, format!("expected a map, found {}", tree.kind()));
                &[]
            }
        }
    }

    /// A text.
    pub fn text<'t>(&mut self, tree: &'t Tree) -> Option<&'t Arc<str>> {
        let text = tree.as_text();
        if text.is_none() {
            self.fault(tree.at, format!("expected a text, found {}", tree.kind()));
        }
        text
    }

    /// `true` or `false`.
    pub fn bool(&mut self, tree: &Tree) -> Option<bool> {
        match &tree.data {
            Data::Scalar(Value::Bool(b)) => Some(*b),
            _ => {
                self.fault(tree.at, format!("expected true or false, found {}", tree.kind()));
                None
            }
        }
    }

    /// A number of no less than a least.
    pub fn number(&mut self, tree: &Tree, least: f64) -> Option<f64> {
        let number = match &tree.data {
            Data::Scalar(v) => v.as_f64(),
            _ => None,
        };
        if number.is_none_or(|n| n < least) {
            self.fault(tree.at, format!("expected a number from {least} on, found {}", tree.kind()));
            return None;
        }
        number
    }

    /// An integer of no less than a least.
    pub fn integer(&mut self, tree: &Tree, least: u64) -> Option<u64> {
        let integer = match &tree.data {
            Data::Scalar(v) => v.as_u64().filter(|i| *i >= least),
            _ => None,
        };
        if integer.is_none() {
            self.fault(tree.at, format!("expected an integer from {least} on, found {}", tree.kind()));
        }
        integer
    }

    /// One name, or a list of names, each with its place.
    pub fn names(&mut self, tree: &Tree) -> Vec<(Arc<str>, At)> {
        match &tree.data {
            Data::List(items) => items.iter().filter_map(|item| Some((self.text(item)?.clone(), item.at))).collect(),
            Data::Scalar(Value::String(one)) => vec![(one.clone(), tree.at)],
            _ => {
                self.fault(tree.at, format!("expected a name or a list of names, found {}", tree.kind()));
                Vec::new()
            }
        }
    }

    /// A name among those declared.
    pub fn known<'n>(
        &mut self,
        what: &str,
        name: &str,
        at: At,
        known: impl IntoIterator<Item = &'n Arc<str>> + Clone,
    ) -> bool {
        if known.clone().into_iter().any(|k| &**k == name) {
            return true;
        }
        let all: Vec<&str> = known.into_iter().map(|k| &**k).collect();
        self.fault(at, format!("there is no {what} `{name}`{}", or_known(name, all.iter().copied())));
        false
    }
}

/// The fields of a map, by name.
pub(crate) struct Fields<'t> {
    all: &'t [(Key, Tree)],
    pub at: At,
}

impl<'t> Fields<'t> {
    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'t Tree> {
        self.all.iter().find(|(k, _)| &*k.name == name).map(|(_, v)| v).filter(|v| !v.is_null())
    }

    /// A field, be it null.
    pub fn raw(&self, name: &str) -> Option<&'t Tree> {
        self.all.iter().find(|(k, _)| &*k.name == name).map(|(_, v)| v)
    }

    /// Where a field's name stands, or the map where it is not there.
    pub fn place(&self, name: &str) -> At {
        self.all.iter().find(|(k, _)| &*k.name == name).map_or(self.at, |(k, _)| k.at)
    }

    /// The names that are there, in order.
    pub fn names(&self) -> impl Iterator<Item = &'t str> {
        self.all.iter().map(|(k, _)| &*k.name)
    }
}
