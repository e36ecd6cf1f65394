//! Reading `nodes`.

use std::sync::Arc;

use runloom_engine::NodeSpec;

use super::{
    Fields, Reader,
    given::Scope,
    policies::{POLICIES, is_end, is_start},
    steps::ACTIONS,
};
use crate::{
    run::DocNode,
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
        let known: Vec<&str> = ACTIONS.iter().copied().chain(["steps"]).chain(POLICIES).collect();
        let fields = self.fields(tree, &known);
        let mut bound = Vec::new();
        // Faults in them are noted with the policies.
        let to: Vec<Arc<str>> = match fields.get("destinations").map(|t| (t, &t.data)) {
            Some((_, Data::List(items))) => items.iter().filter_map(|i| i.as_text().cloned()).collect(),
            Some((one, _)) => one.as_text().cloned().into_iter().collect(),
            None => Vec::new(),
        };
        let mut steps = Vec::new();
        match (self.one_action(&fields, tree, "a node"), fields.get("steps")) {
            (Some((name, _)), Some(steps)) => {
                self.fault(steps.at, format!("a node is either one action or `steps`; move `{name}` into the steps"));
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
                let message = format!("a node needs an action, one of {}, or `steps`", ACTIONS.join(", "));
                if !fields.names().any(|n| !known.contains(&n)) {
                    self.fault(tree.at, message);
                }
            }
        }
        self.policies(NodeSpec::new(DocNode::new(steps)), &fields, scope)
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
