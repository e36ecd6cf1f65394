//! What is served at a moment: the latest revision of each graph, and older ones that are at hand.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use runloom_engine::Graph;
use runloom_store::{AssistantId, TenantId};
use runloom_suggest::{list, or_known};

use super::{
    documents::Bundle,
    served::{GraphSource, Served, default_assistant_id, is_visible},
};
use crate::{Error, Reason};

/// How many older revisions stay at hand.
const OLD: usize = 256;

/// What is served now.
#[derive(Clone, Default)]
pub(super) struct Table {
    /// The latest revision of each graph.
    pub graphs: BTreeMap<String, Arc<Served>>,
    /// Registered graphs that could not be loaded, and why.
    pub broken: BTreeMap<String, Error>,
    /// The graphs by the ids of their default assistants.
    pub defaults: HashMap<AssistantId, String>,
    /// Revisions that were served, or looked for, before.
    old: VecDeque<Arc<Served>>,
}

impl Table {
    /// Serves a graph, in place of an older revision of it.
    pub fn serve(&mut self, served: Arc<Served>) {
        let name = served.name.to_string();
        self.broken.remove(&name);
        if served.hidden {
            self.defaults.remove(&default_assistant_id(&name));
        } else {
            self.defaults.insert(default_assistant_id(&name), name.clone());
        }
        if let Some(before) = self.graphs.insert(name, served) {
            self.keep(before);
        }
    }

    /// Serves a graph no more.
    pub fn remove(&mut self, name: &str) {
        self.broken.remove(name);
        self.defaults.remove(&default_assistant_id(name));
        if let Some(before) = self.graphs.remove(name) {
            self.keep(before);
        }
    }

    /// Keeps an older revision at hand.
    pub fn keep(&mut self, served: Arc<Served>) {
        self.old.retain(|old| old.name != served.name || old.revision != served.revision);
        self.old.push_back(served);
        if self.old.len() > OLD {
            self.old.pop_front();
        }
    }

    /// A revision of a graph, where it is at hand.
    pub fn at(&self, name: &str, revision: &str) -> Option<Arc<Served>> {
        let is_it = |served: &&Arc<Served>| *served.name == *name && *served.revision == *revision;
        self.graphs.get(name).filter(is_it).or_else(|| self.old.iter().find(is_it)).cloned()
    }

    /// The graphs of the program.
    pub fn program(&self) -> Vec<Graph> {
        self.graphs.values().filter(|g| g.source == GraphSource::Program).map(|g| g.graph.clone()).collect()
    }

    /// The names of the graphs whose documents use this one, directly or not.
    pub fn users(&self, name: &str) -> Vec<Arc<str>> {
        let mut users: Vec<Arc<str>> = Vec::new();
        let mut open: Vec<Arc<str>> = vec![name.into()];
        while let Some(used) = open.pop() {
            for graph in self.graphs.values().filter(|g| g.uses.contains(&used)) {
                if !users.contains(&graph.name) && *graph.name != *name {
                    users.push(graph.name.clone());
                    open.push(graph.name.clone());
                }
            }
        }
        users
    }

    /// The texts of all documents.
    pub fn texts(&self) -> Texts {
        let mut texts = Texts::default();
        self.graphs.values().for_each(|served| texts.add(served));
        texts
    }

    /// There is no such graph to be run, or none at all.
    pub fn unknown(&self, tenant: &TenantId, name: &str, hidden_too: bool) -> Error {
        let visible = |graph: &Arc<Served>| is_visible(tenant, graph);
        let known = self.graphs.iter().filter(|(_, graph)| visible(graph) && (hidden_too || !graph.hidden));
        let known: Vec<&str> = known.map(|(name, _)| &**name).collect();
        let message = match (
            self.graphs.get(name).filter(|graph| visible(graph)),
            self.broken.get(name).filter(|_| tenant.is_default()),
        ) {
            (Some(_), _) => {
                format!("graph `{name}` is hidden: it runs inside other graphs only; take `hidden` out of its document")
            }
            (None, Some(error)) => {
                format!("graph `{name}` is registered, but cannot be loaded; register it anew. {}", error.message)
            }
            (None, None) if known.is_empty() => format!("there is no graph `{name}`: the server has none yet"),
            (None, None) => format!("there is no graph `{name}`{}", or_known(name, known.iter().copied())),
        };
        Error::new(Reason::GraphUnknown, message).with("graph", name).with("known", list(known))
    }
}

/// The texts of documents by the names of their graphs.
#[derive(Default)]
pub(super) struct Texts(BTreeMap<Arc<str>, Written>);

/// A document's text, and the graphs that it uses.
struct Written {
    text: Arc<str>,
    uses: Vec<Arc<str>>,
    is_own: bool,
}

impl Texts {
    /// Adds a graph's document, if it has one.
    pub fn add(&mut self, served: &Served) {
        if let Some(text) = &served.text {
            self.0.insert(
                served.name.clone(),
                Written { text: text.clone(), uses: served.uses.clone(), is_own: served.source == GraphSource::Folder },
            );
        }
    }

    /// A document with those it uses, as it is kept; none for a graph that has none.
    pub fn bundle(&self, name: &str) -> Option<String> {
        let main = self.0.get(name)?;
        let (mut within, mut own, mut open) = (BTreeMap::new(), BTreeSet::new(), main.uses.clone());
        while let Some(used) = open.pop() {
            if let (Some(inner), false) = (self.0.get(&used), within.contains_key(&*used)) {
                within.insert(used.to_string(), inner.text.to_string());
                if inner.is_own {
                    own.insert(used.to_string());
                }
                open.extend(inner.uses.iter().cloned());
            }
        }
        Some(Bundle { text: main.text.to_string(), within, own }.write())
    }
}
