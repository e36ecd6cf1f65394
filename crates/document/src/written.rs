//! A document as it was written: what it is called, what it refers to, the hash of what it is.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{Graph, Value};

use crate::{
    document::Document,
    error::Problem,
    read::Reader,
    set::Registry,
    tree::{At, Data, Tree},
};

/// A document as it was written, with the name it goes by.
pub(crate) struct Written {
    pub file: Arc<str>,
    pub text: String,
    pub tree: Tree,
    pub name: Arc<str>,
    pub name_at: At,
}

impl Written {
    /// Reads the text and what it is called. Where only its name is wrong, the rest can be looked at all the same.
    pub fn read(file: Arc<str>, text: String) -> (Option<Self>, Vec<Problem>) {
        let tree = match Tree::parse(&file, &text) {
            Ok(tree) => tree,
            Err(problem) => return (None, vec![problem]),
        };
        let mut reader = Reader::new(&file, &text);
        let mut found = None;
        if matches!(tree.data, Data::Map(_)) {
            reader.version(&tree);
            found = reader.problems.is_empty().then(|| reader.name(&tree));
        } else {
            reader.fault(
                tree.at,
                format!("a graph document is a map that begins with `runloom: v1`, not {}", tree.kind()),
            );
        }
        let problems = reader.problems;
        (found.map(|(name, name_at)| Self { file, text, tree, name, name_at }), problems)
    }

    /// The graphs that it names as subgraphs, each with its place.
    pub fn references(&self) -> Vec<(Arc<str>, At, String)> {
        let mut found = Vec::new();
        let Some(Data::Map(nodes)) = self.tree.get("nodes").map(|n| &n.data) else { return found };
        for (key, node) in nodes {
            let mut see = |action: &Tree| {
                let Some(subgraph) = action.get("subgraph") else { return };
                let named = if subgraph.as_text().is_some() { Some(subgraph) } else { subgraph.get("graph") };
                if let Some((name, at)) = named.and_then(|t| Some((t.as_text()?.clone(), t.at))) {
                    found.push((name, at, format!("node `{}`, subgraph", key.name)));
                }
            };
            see(node);
            if let Some(Data::List(steps)) = node.get("steps").map(|s| &s.data) {
                steps.iter().for_each(&mut see);
            }
        }
        found
    }

    /// Compiles it. `graphs` are all that it may run inside.
    pub fn compile(&self, graphs: &BTreeMap<Arc<str>, Graph>, registry: &Registry) -> Result<Document, Vec<Problem>> {
        let mut reader = Reader::new(&self.file, &self.text);
        let result = reader.document(self, graphs, registry);
        match result {
            Some(mut document) if reader.problems.is_empty() => {
                document.warnings = reader.warnings;
                Ok(document)
            }
            _ => Err(reader.problems),
        }
    }

    /// The hash of what the graph is.
    pub fn revision(&self, subgraphs: &[&Graph]) -> String {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let told = ["description", "hidden"];
        if let Value::Object(fields) = self.tree.to_value() {
            for (key, value) in fields.iter().filter(|(k, _)| !told.contains(&&***k)) {
                hash.update(format!("{key}\0{value}\0").as_bytes());
            }
        }
        for graph in subgraphs {
            hash.update(format!("{}\0{}\0", graph.name(), graph.revision()).as_bytes());
        }
        format!("{:032x}", hash.digest128())
    }
}

impl Reader<'_> {
    fn version(&mut self, tree: &Tree) {
        match tree.get("runloom") {
            None => self.fault(tree.at, "a graph document begins with `runloom: v1`"),
            Some(v) if v.as_text().is_some_and(|t| &**t == "v1") => {}
            Some(v) => self.fault(v.at, format!("the format's version has to be `v1`, found {}", v.kind())),
        }
    }

    fn name(&mut self, tree: &Tree) -> (Arc<str>, At) {
        let Some(name) = tree.get("name") else {
            self.fault(tree.at, "a graph document needs a `name`");
            return (Arc::from(""), tree.at);
        };
        let Some(text) = self.text(name).cloned() else { return (Arc::from(""), name.at) };
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if text.is_empty() || text.len() > 128 || !text.chars().all(is_word) {
            self.fault(name.at, format!("the name `{text}` has to be of lower case letters, digits, `_` and `-`"));
        }
        (text, name.at)
    }
}
