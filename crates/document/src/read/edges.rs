//! Reading `edges`, and the static breakpoints.

use std::sync::Arc;

use runloom_engine::{Breakpoints, END, GraphBuilder, START};

use super::{
    Reader,
    given::{Scope, Sees},
    policies::{is_end, is_start},
};
use crate::{
    run::DocRoute,
    suggest::or_known,
    tree::{At, Data, Tree},
};

/// What is known of the edges so far.
#[derive(Default)]
struct Seen {
    /// Whether one leaves START.
    enters: bool,
    /// The sources of routes: a second route of a node needs a name of its own.
    routed: Vec<Arc<str>>,
}

impl Reader<'_> {
    /// The edges, added to the graph.
    pub fn edges(&mut self, tree: &Tree, scope: &Scope<'_>, graph: &mut GraphBuilder) {
        let mut seen = Seen::default();
        let Data::List(items) = &tree.data else {
            self.fault(tree.at, format!("expected a list of edges, found {}", tree.kind()));
            return;
        };
        for (i, item) in items.iter().enumerate() {
            self.within(format!("edge {}", i + 1), |r| r.edge(item, scope, graph, &mut seen));
        }
        if !seen.enters {
            self.fault(tree.at, "the graph cannot be entered: there is no edge from START");
        }
    }

    fn edge(&mut self, tree: &Tree, scope: &Scope<'_>, graph: &mut GraphBuilder, seen: &mut Seen) {
        let fields = self.fields(tree, &["from", "to", "route", "name"]);
        let from = fields.get("from").map(|f| (self.names(f), matches!(f.data, Data::List(_))));
        let to = fields.get("to").map(|t| self.names(t));
        for (what, missing) in [("from", from.is_none()), ("to", to.is_none())] {
            if missing && fields.at == tree.at && matches!(tree.data, Data::Map(_)) {
                self.fault(tree.at, format!("an edge needs `{what}`"));
            }
        }
        seen.enters |= from.iter().flat_map(|(names, _)| names).any(|(name, _)| is_start(name));
        for what in ["from", "to"] {
            if let Some(Tree { data: Data::List(items), at }) = fields.get(what)
                && items.is_empty()
            {
                self.fault(*at, format!("an edge needs at least one name in `{what}`"));
            }
        }
        let (Some((from, is_join)), Some(to)) = (from, to) else { return };
        let from: Vec<Arc<str>> = from.into_iter().filter_map(|(n, at)| self.source(n, at, scope)).collect();
        let to: Vec<Arc<str>> = to.into_iter().filter_map(|(n, at)| self.target(n, at, scope)).collect();
        if let Some(route) = fields.get("route") {
            let name = self.field(&fields, "name", |r, t| r.text(t)).cloned().unwrap_or_else(|| "route".into());
            if let Some(worker) = route.get("worker") {
                let worker = self.within("route, worker", |r| r.worker(worker, None));
                self.may_send = true;
                if let (Some(worker), [from]) = (worker, &from[..]) {
                    let name = self.route_name(name, from, seen);
                    graph.add_route(from.clone(), name, Arc::new(worker.route(scope)), Some(to));
                } else if is_join {
                    self.fault(tree.at, "a route leaves one node; `from` has several");
                }
                return;
            }
            let given = self.within("route", |r| r.given(route, scope, Sees::route()));
            let (outcomes, open) = given.outcomes();
            self.may_send |= open;
            for outcome in &outcomes {
                if !to.iter().any(|t| t == outcome || (is_end(t) && is_end(outcome))) {
                    let near = or_known(outcome, to.iter().map(|t| if is_end(t) { "END" } else { &**t }));
                    self.fault(route.at, format!("the route gives `{outcome}`, which is not in its `to`{near}"));
                }
            }
            let [from] = &from[..] else {
                if is_join {
                    self.fault(tree.at, "a route leaves one node; `from` has several");
                }
                return;
            };
            let name = self.route_name(name, from, seen);
            let route = DocRoute { name: name.clone(), from: from.clone(), route: given, to: to.clone() };
            graph.add_route(from.clone(), name, Arc::new(route), Some(to));
            return;
        }
        if let Some(name) = fields.raw("name") {
            self.fault(name.at, "only an edge with a `route` has a `name`");
        }
        if is_join && from.len() > 1 {
            if let Some(start) = from.iter().find(|n| is_start(n)) {
                self.fault(tree.at, format!("`{start}` cannot be waited for together with nodes"));
                return;
            }
            for to in to {
                if is_end(&to) {
                    self.fault(tree.at, "nothing waits at END: give each node an edge of its own");
                } else {
                    graph.add_join(from.clone(), to);
                }
            }
        } else {
            for from in &from {
                for to in &to {
                    graph.add_edge(from.clone(), to.clone());
                }
            }
        }
    }

    /// The name of a route: a second one of a node has a number.
    fn route_name(&self, name: Arc<str>, from: &Arc<str>, seen: &mut Seen) -> Arc<str> {
        let count = seen.routed.iter().filter(|routed| *routed == from).count();
        seen.routed.push(from.clone());
        if count > 0 && &*name == "route" { format!("route_{}", count + 1).into() } else { name }
    }

    /// A name that an edge may leave.
    fn source(&mut self, name: Arc<str>, at: At, scope: &Scope<'_>) -> Option<Arc<str>> {
        if is_start(&name) {
            return Some(START.into());
        }
        if is_end(&name) {
            self.fault(at, "no edge leaves END");
            return None;
        }
        self.known("node", &name, at, &scope.nodes).then_some(name)
    }

    /// A name that an edge may lead to.
    fn target(&mut self, name: Arc<str>, at: At, scope: &Scope<'_>) -> Option<Arc<str>> {
        if is_end(&name) {
            return Some(END.into());
        }
        if is_start(&name) {
            self.fault(at, "no edge leads to START");
            return None;
        }
        self.known("node", &name, at, &scope.nodes).then_some(name)
    }

    /// `interrupt_before`, `interrupt_after`.
    pub fn breakpoints(&mut self, tree: &Tree, scope: &Scope<'_>) -> Breakpoints {
        if tree.as_text().is_some_and(|t| &**t == "*") {
            return Breakpoints::All;
        }
        let names = self.names(tree);
        if names.iter().any(|(n, _)| &**n == "*") {
            return Breakpoints::All;
        }
        Breakpoints::Nodes(
            names.into_iter().filter(|(n, at)| self.known("node", n, *at, &scope.nodes)).map(|(n, _)| n).collect(),
        )
    }
}
