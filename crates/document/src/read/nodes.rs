//! Reading `nodes`.

use std::sync::Arc;

use runloom_engine::NodeSpec;
use runloom_workers::WorkerNode;

use super::{
    Fields, Reader,
    given::Scope,
    policies::{HANDLER_POLICIES, NODE_POLICIES, is_end, is_start},
    steps::ACTIONS,
};
use crate::{
    run::{DocNode, ERROR, Step},
    tree::{At, Data, Tree},
};

/// A node that has been read.
pub(crate) struct ReadNode {
    pub name: Arc<str>,
    pub at: At,
    pub spec: NodeSpec,
}

impl Reader<'_> {
    /// The nodes.
    pub fn nodes(&mut self, tree: &Tree, scope: &Scope<'_>) -> Vec<ReadNode> {
        let entries = self.entries(tree);
        let mut nodes = Vec::new();
        for (key, node) in entries {
            let spec = self.within(format!("node `{}`", key.name), |r| {
                if is_start(&key.name) || is_end(&key.name) {
                    r.fault(key.at, format!("`{}` is a name of the graph's own ends", key.name));
                }
                if key.name.is_empty() || key.name.contains([':', '|']) {
                    r.fault(key.at, "a node's name may not be empty or hold `:` or `|`");
                }
                r.node(node, scope)
            });
            nodes.push(ReadNode { name: key.name.clone(), at: key.at, spec });
        }
        nodes
    }

    fn node(&mut self, tree: &Tree, scope: &Scope<'_>) -> NodeSpec {
        let policies = HANDLER_POLICIES.into_iter().chain(NODE_POLICIES);
        let known: Vec<&str> = ACTIONS.iter().copied().chain(["steps"]).chain(policies).collect();
        let fields = self.fields(tree, &known);
        let spec = self.node_work("a node", tree, &fields, scope, Vec::new());
        match fields.get("on_error") {
            Some(handler) => spec.error_handler(self.within("on_error", |r| r.error_handler(handler, scope))),
            None => spec,
        }
    }

    /// What runs when a node has failed: as a node, and its expressions see the `error`.
    fn error_handler(&mut self, tree: &Tree, scope: &Scope<'_>) -> NodeSpec {
        let known: Vec<&str> = ACTIONS.iter().copied().chain(["steps"]).chain(HANDLER_POLICIES).collect();
        let fields = self.fields(tree, &known);
        self.node_work("an error handler", tree, &fields, scope, vec![ERROR.into()])
    }

    /// The action or the steps, and the policies. `bound` are names that expressions see.
    fn node_work(
        &mut self,
        what: &str,
        tree: &Tree,
        fields: &Fields<'_>,
        scope: &Scope<'_>,
        mut bound: Vec<Arc<str>>,
    ) -> NodeSpec {
        // Faults in them are noted with the policies.
        let to: Vec<Arc<str>> = match fields.get("destinations").map(|t| (t, &t.data)) {
            Some((_, Data::List(items))) => items.iter().filter_map(|i| i.as_text().cloned()).collect(),
            Some((one, _)) => one.as_text().cloned().into_iter().collect(),
            None => Vec::new(),
        };
        let mut steps = Vec::new();
        match (self.one_action(fields, tree, what), fields.get("steps")) {
            (Some((name, _)), Some(steps)) => {
                self.fault(steps.at, format!("{what} is either one action or `steps`; move `{name}` into the steps"));
            }
            (Some((name, action)), None) => steps.extend(self.action(name, action, scope, &mut bound, &to)),
            (None, Some(tree)) => match &tree.data {
                Data::List(items) if !items.is_empty() => {
                    for (i, item) in items.iter().enumerate() {
                        self.within(format!("step {}", i + 1), |r| {
                            let fields = r.fields(item, &ACTIONS);
                            if let Some((name, action)) = r.one_action(&fields, item, "a step") {
                                steps.extend(r.action(name, action, scope, &mut bound, &to));
                            }
                        });
                    }
                }
                _ => self.fault(tree.at, format!("expected a list of actions, found {}", tree.kind())),
            },
            (None, None) => {
                let message = format!("{what} needs an action, one of {}, or `steps`", ACTIONS.join(", "));
                // An unknown key may be a misspelt action, and is noted already.
                let is_policy = |n: &str| HANDLER_POLICIES.contains(&n) || NODE_POLICIES.contains(&n);
                if fields.names().all(|n| is_policy(n) || n == "steps") {
                    self.fault(tree.at, message);
                }
            }
        }
        let worker = match &steps[..] {
            [Step::Worker(node)] => Some(node.clone()),
            _ => None,
        };
        let mut spec = self.policies(NodeSpec::new(DocNode::new(steps)), fields, scope);
        if let Some(node) = worker {
            // Alone, its output is the node's as it is, and its time begins when a worker has the task.
            let (timeout, idle_timeout) = (spec.timeout.take(), spec.idle_timeout.take());
            spec.node = Arc::new(WorkerNode { timeout, idle_timeout, ..*node });
        }
        spec
    }

    /// The one action among fields.
    fn one_action<'t>(&mut self, fields: &Fields<'t>, tree: &Tree, what: &str) -> Option<(&'t str, &'t Tree)> {
        let found: Vec<&str> = fields.names().filter(|n| ACTIONS.contains(n)).collect();
        match found[..] {
            [] => {
                // Policies without an action are a fault of the node; a step that is no action is noted as unknown.
                if what == "a step" && fields.names().next().is_none() {
                    self.fault(tree.at, format!("{what} needs an action, one of {}", ACTIONS.join(", ")));
                }
                None
            }
            [one] => Some((one, fields.raw(one)?)),
            [first, second, ..] => {
                let message = format!("{what} is one action, and this has `{first}` and `{second}`; use `steps`");
                self.fault(fields.place(second), message);
                None
            }
        }
    }
}
