//! Reading the action that runs another graph.

use std::sync::Arc;

use runloom_engine::graph::MAX_NESTED;

use super::{
    Reader,
    given::{Scope, Sees},
    steps::Bound,
};
use crate::{
    run::{Mapping, Step, Within},
    suggest::or_known,
    tree::{Data, Tree},
};

impl Reader<'_> {
    pub(super) fn subgraph(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &Bound) -> Option<Step> {
        let empty = Tree { data: Data::Map(Vec::new()), at: tree.at };
        let (name, at, fields) = match tree.as_text() {
            Some(name) => (name.clone(), tree.at, self.fields(&empty, &[])),
            None => {
                let fields = self.fields(tree, &["graph", "input", "output", "checkpointer"]);
                let Some(graph) = fields.get("graph") else {
                    self.fault(tree.at, "`subgraph` needs a `graph`: the name of another one");
                    return None;
                };
                (self.text(graph)?.clone(), graph.at, fields)
            }
        };
        let input = fields.get("input").map(|t| self.within("input", |r| r.mapping(t, scope, Sees::step(bound), None)));
        let output = fields
            .get("output")
            .map(|t| self.within("output", |r| r.mapping(t, scope, Sees::result(bound), Some(scope))));
        let persistent = self.field(&fields, "checkpointer", |r, t| r.bool(t)).unwrap_or(false);
        // That the graph is there and nests no deeper than it may has been looked at when the set was put in order.
        let graph = scope.graphs.get(&name).filter(|graph| graph.nested() < MAX_NESTED).cloned();
        if let (Some(graph), Some(Mapping::Fields(writes))) = (&graph, &input) {
            let known: Vec<&Arc<str>> = graph.input_channels().map(|c| &c.name).collect();
            for write in writes {
                if !known.iter().any(|k| **k == write.channel) {
                    let near = or_known(&write.channel, known.iter().map(|k| &***k));
                    self.fault(at, format!("graph `{name}` takes no input `{}`{near}", write.channel));
                }
            }
        }
        Some(Step::Subgraph(Within {
            graph: graph?,
            input: input.map(Arc::new),
            output: output.map(Arc::new),
            persistent,
        }))
    }

    /// An object made by one expression, or field by field. `channels` are the ones that its fields have to be.
    fn mapping(&mut self, tree: &Tree, scope: &Scope<'_>, sees: Sees<'_>, channels: Option<&Scope<'_>>) -> Mapping {
        let Data::Map(entries) = &tree.data else { return Mapping::Whole(self.given(tree, scope, sees)) };
        let mut writes = Vec::new();
        for (key, value) in entries {
            if let Some(scope) = channels {
                self.known("channel", &key.name, key.at, scope.channels.iter().map(|c| &c.name));
            }
            writes.push(self.within(&*key.name, |r| r.write(&key.name, value, scope, sees)));
        }
        Mapping::Fields(writes)
    }
}
