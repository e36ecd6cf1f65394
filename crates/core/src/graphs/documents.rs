//! Documents on their way to being served: read together, each made ready, and kept with what they use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runloom_document::{Document, DocumentSet, Problem, Registry};
use runloom_engine::Graph;
use serde::{Deserialize, Serialize};

use super::served::{GraphSource, GraphWarning};
use crate::{Error, Reason, Result};

/// What errors call a document that is being registered.
pub(super) const DOCUMENT: &str = "document";

/// A document as it was given: where it comes from, and its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub source: GraphSource,
    /// What errors call it: the file, or its name where it was registered.
    pub label: String,
    pub text: String,
}

impl Given {
    pub fn folder(file: &str, text: &str) -> Self {
        Self { source: GraphSource::Folder, label: file.to_owned(), text: text.to_owned() }
    }

    /// One that was registered under a name.
    pub fn registered(name: &str, text: &str) -> Self {
        Self { source: GraphSource::Registered, label: format!("registered:{name}"), text: text.to_owned() }
    }

    /// The file that it comes from.
    pub fn file(&self) -> Option<Arc<str>> {
        (self.source == GraphSource::Folder).then(|| self.label.as_str().into())
    }

    /// Where it comes from, for an error.
    pub fn origin(&self) -> String {
        match self.source {
            GraphSource::Folder => format!("the folder ({})", self.label),
            _ => "a registration".to_owned(),
        }
    }
}

/// What came of reading documents together.
pub(super) struct Read {
    /// Those that hold together, with what was given.
    pub good: Vec<(Document, Given)>,
    /// What is wrong with the others, by what they are called.
    pub faults: BTreeMap<String, Error>,
}

impl Read {
    /// Reads documents that may use each other, these graphs and what the program brings, beside the threads that serve.
    pub async fn together(given: Vec<Given>, graphs: Vec<Graph>, brought: &Registry) -> Result<Self> {
        let registry = graphs.into_iter().fold(brought.clone(), |r, graph| r.graph(graph));
        // What callers registered may not name every key and address.
        let registered = given.iter().filter(|g| g.source == GraphSource::Registered);
        let registry = registered.fold(registry, |r, given| r.registered(given.label.as_str()));
        let reading = tokio::task::spawn_blocking(move || Self::of(given, &registry));
        reading.await.map_err(|error| Error::new(Reason::Internal, format!("documents could not be read: {error}")))
    }

    fn of(given: Vec<Given>, registry: &Registry) -> Self {
        let texts = given.iter().map(|g| (g.label.as_str(), g.text.as_str()));
        let (set, problems) = DocumentSet::read(texts, registry);
        let good = set.into_iter().filter_map(|document| {
            let given = given.iter().find(|g| *g.label == **document.file())?.clone();
            Some((document, given))
        });
        let good = good.collect();
        let mut by_label: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
        for problem in problems {
            by_label.entry(problem.file.to_string()).or_default().push(problem);
        }
        Self { good, faults: by_label.into_iter().map(|(label, problems)| (label, invalid(&problems))).collect() }
    }
}

/// Documents that cannot be loaded, with every fault and its place.
fn invalid(problems: &[Problem]) -> Error {
    let lines: Vec<String> = problems.iter().take(20).map(ToString::to_string).collect();
    let mut error = Error::new(Reason::GraphInvalid, lines.join("\n"));
    for problem in problems {
        let place = if problem.line > 0 {
            format!("{}:{}:{}", problem.file, problem.line, problem.column)
        } else {
            problem.file.to_string()
        };
        let what = if problem.place.is_empty() {
            problem.message.clone()
        } else {
            format!("{}: {}", problem.place, problem.message)
        };
        error.fields.push((place, what));
    }
    match problems.iter().find(|problem| problem.line > 0) {
        Some(first) => error.with("line", first.line).with("column", first.column),
        None => error,
    }
}

/// Several errors of graphs as one; none where there are none.
pub(super) fn all(errors: impl IntoIterator<Item = Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let mut first = errors.next()?;
    for error in errors {
        first.message = format!("{}\n{}", first.message, error.message);
        first.fields.extend(error.fields);
    }
    Some(first)
}

/// A document's warning.
pub(super) fn warning(problem: &Problem) -> GraphWarning {
    let known = |n: u64| u32::try_from(n).ok().filter(|n| *n > 0);
    let message = if problem.place.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.place, problem.message)
    };
    GraphWarning { message, line: known(problem.line), column: known(problem.column) }
}

/// A document with those of the graphs it uses: what a revision is, and is kept as.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bundle {
    #[serde(rename = "runloom_bundle")]
    pub text: String,
    /// The others, by the names of their graphs.
    pub within: BTreeMap<String, String>,
    /// Which of them are the operator's own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub own: BTreeSet<String>,
}

impl Bundle {
    /// The document alone where it uses no other, else all of them.
    pub fn write(self) -> String {
        if self.within.is_empty() {
            return self.text;
        }
        // Maps of texts are always JSON.
        serde_json::to_string(&self).unwrap_or(self.text)
    }

    pub fn read(kept: &str) -> Self {
        let bundle = kept.starts_with("{\"runloom_bundle\":").then(|| serde_json::from_str(kept).ok()).flatten();
        bundle.unwrap_or_else(|| Self { text: kept.to_owned(), within: BTreeMap::new(), own: BTreeSet::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_reads_back_and_a_document_stands_for_itself() {
        let within = BTreeMap::from([("child".to_owned(), "name: child".to_owned())]);
        let text = Bundle {
            text: "name: parent".to_owned(),
            within: within.clone(),
            own: BTreeSet::from(["child".to_owned()]),
        }
        .write();
        assert_eq!(
            Bundle::read(&text),
            Bundle { text: "name: parent".to_owned(), within, own: BTreeSet::from(["child".to_owned()]) }
        );
        let alone = "{\"runloom\": \"v1\"}";
        assert_eq!(Bundle::read(alone).text, alone);
        assert_eq!(Bundle::read(alone).write(), alone);
    }
}
