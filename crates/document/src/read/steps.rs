//! Reading the actions of a node.

use std::sync::Arc;

use runloom_engine::Reducer;

use super::{
    Reader,
    given::{Given, Scope, Sees},
    policies::is_end,
};
use crate::{
    run::{Chat, ERROR, NO_DESTINATION, RunTools, Step, Write},
    schema::Schema,
    suggest::or_known,
    tree::{At, Data, Tree},
};

/// The actions that a node or a step may be.
pub(crate) const ACTIONS: [&str; 14] = [
    "update",
    "emit",
    "event",
    "interrupt",
    "command",
    "chat_model",
    "tools",
    "retrieve",
    "subgraph",
    "worker",
    "http",
    "sleep_ms",
    "heartbeat",
    "fail",
];

pub(super) type Bound = Vec<Arc<str>>;

impl Reader<'_> {
    /// Reads one action. What it binds is seen by those after it.
    pub fn action(
        &mut self,
        name: &str,
        tree: &Tree,
        scope: &Scope<'_>,
        bound: &mut Bound,
        to: &[Arc<str>],
    ) -> Option<Step> {
        self.within(name, |r| match name {
            "update" => Some(Step::Update(r.writes(tree, scope, bound, true))),
            "emit" => Some(Step::Emit(match &tree.data {
                Data::List(items) => items.iter().map(|item| r.given(item, scope, Sees::step(bound))).collect(),
                _ => vec![r.given(tree, scope, Sees::step(bound))],
            })),
            "event" => r.event(tree, scope, bound),
            "interrupt" => Some(r.interrupt(tree, scope, bound)),
            "command" => Some(r.command(tree, scope, bound, to)),
            "chat_model" => r.chat_model(tree, scope, bound),
            "tools" => Some(r.run_tools(tree, scope)),
            "subgraph" => r.subgraph(tree, scope, bound),
            "sleep_ms" => Some(Step::Sleep(r.given(tree, scope, Sees::step(bound)))),
            "fail" => Some(Step::Fail(r.given(tree, scope, Sees::step(bound)))),
            "heartbeat" => match r.bool(tree)? {
                true => Some(Step::Heartbeat),
                false => {
                    r.fault(tree.at, "`heartbeat` is `true`, or is left out");
                    None
                }
            },
            "retrieve" => {
                let retrieve = r.retrieve(tree, scope, Sees::step(bound));
                let bind = r.bind(tree.get("as"), "documents", bound);
                Some(Step::Retrieve { retrieve: Box::new(retrieve?), bind })
            }
            "http" => r.http(tree, scope, bound),
            "worker" => r.worker_step(tree, scope, to),
            _ => None,
        })
    }

    /// `channel: expr` by channel. `known` says whether the channels are this graph's.
    fn writes(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &Bound, known: bool) -> Vec<Write> {
        let entries = self.entries(tree);
        let mut writes = Vec::new();
        for (key, value) in entries {
            if known {
                self.known("channel", &key.name, key.at, scope.channels.iter().map(|c| &c.name));
            }
            let write = self.within(&*key.name, |r| r.write(&key.name, value, scope, Sees::step(bound)));
            writes.push(write);
        }
        writes
    }

    pub(super) fn write(&mut self, channel: &Arc<str>, tree: &Tree, scope: &Scope<'_>, sees: Sees<'_>) -> Write {
        let is_form = |fields: &[(crate::tree::Key, Tree)]| {
            fields.iter().any(|(k, _)| &*k.name == "expr")
                && fields.iter().all(|(k, _)| ["expr", "overwrite"].contains(&&*k.name))
        };
        match &tree.data {
            Data::Map(fields) if is_form(fields) => {
                let overwrite = tree.get("overwrite").and_then(|o| self.bool(o)).unwrap_or(false);
                let value = tree.get("expr").map_or(Given::Value(Default::default()), |e| self.given(e, scope, sees));
                Write { channel: channel.clone(), value, overwrite }
            }
            _ => Write { channel: channel.clone(), value: self.given(tree, scope, sees), overwrite: false },
        }
    }

    /// A name that later steps see.
    fn bind(&mut self, tree: Option<&Tree>, otherwise: &str, bound: &mut Bound) -> Arc<str> {
        let mut name: Arc<str> = otherwise.into();
        if let Some(tree) = tree
            && let Some(text) = self.text(tree)
        {
            name = text.clone();
            if !is_identifier(text) {
                self.fault(tree.at, format!("`{text}` cannot be a name in expressions: letters, digits and `_`"));
            } else if RESERVED.contains(&&**text)
                || bound.first().is_some_and(|first| **first == *ERROR && first == text)
            {
                self.fault(tree.at, format!("`{text}` is a name that expressions have already"));
                return name;
            }
        }
        bound.push(name.clone());
        name
    }

    fn event(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &Bound) -> Option<Step> {
        let fields = self.fields(tree, &["name", "data"]);
        let data = match fields.raw("data") {
            Some(data) => self.given(data, scope, Sees::step(bound)),
            None => Given::Value(Default::default()),
        };
        let Some(name) = fields.get("name") else {
            self.fault(tree.at, "an event needs a `name`");
            return None;
        };
        Some(Step::Event { name: self.text(name)?.clone(), data })
    }

    fn http(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &mut Bound) -> Option<Step> {
        let known: Vec<&str> = super::http::PARTS.into_iter().chain(["as"]).collect();
        let fields = self.fields(tree, &known);
        let call = self.http_call(&fields, scope, Sees::step(bound));
        let bind = self.bind(fields.get("as"), "response", bound);
        Some(Step::Http { call: Box::new(call?), bind })
    }

    fn interrupt(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &mut Bound) -> Step {
        let fields = self.fields(tree, &["value", "as", "response_schema"]);
        let schema = self.field(&fields, "response_schema", |r, t| {
            let schema = t.to_value();
            if let Err(fault) = Schema::compile(&schema) {
                r.fault(t.at, fault);
            }
            Some(schema)
        });
        let value = match fields.raw("value") {
            Some(value) => self.given(value, scope, Sees::step(bound)),
            None => {
                self.fault(tree.at, "an interrupt needs a `value`: what the person is asked");
                Given::Value(Default::default())
            }
        };
        Step::Interrupt { value, schema, bind: self.bind(fields.get("as"), "answer", bound) }
    }

    fn command(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &Bound, to: &[Arc<str>]) -> Step {
        let fields = self.fields(tree, &["update", "goto", "parent"]);
        let parent = self.field(&fields, "parent", |r, t| r.bool(t)).unwrap_or(false);
        let update = match fields.get("update") {
            Some(update) => self.within("update", |r| r.writes(update, scope, bound, !parent)),
            None => Vec::new(),
        };
        let goto = fields.get("goto").map(|goto| {
            let given = self.within("goto", |r| r.given(goto, scope, Sees::step(bound)));
            if !parent {
                self.targets(&given, goto.at, scope, to);
            }
            given
        });
        if update.is_empty() && goto.is_none() {
            self.fault(tree.at, "a command needs an `update`, a `goto`, or both");
        }
        // What is meant for the parent goes to the parent's nodes.
        let to = if parent { Arc::default() } else { to.into() };
        Step::Command { update, goto, parent, to }
    }

    /// Checks the names that a `goto` is written to come to.
    fn targets(&mut self, given: &Given, at: At, scope: &Scope<'_>, to: &[Arc<str>]) {
        let (names, open) = given.outcomes();
        self.may_send |= open;
        self.gone_to.extend(names.iter().cloned());
        for name in names.iter().filter(|n| !is_end(n)) {
            if self.known("node", name, at, &scope.nodes) && !to.is_empty() && !to.contains(name) {
                self.fault(at, format!("the command goes to `{name}`, {NO_DESTINATION}"));
            }
        }
    }

    fn chat_model(&mut self, tree: &Tree, scope: &Scope<'_>, bound: &mut Bound) -> Option<Step> {
        let fields = self.fields(tree, &["model", "messages", "system", "tools", "write", "as", "tags"]);
        let messages =
            fields.get("messages").map(|m| self.within("messages", |r| r.given(m, scope, Sees::step(bound))));
        let system = fields.get("system").map(|s| match (s.as_text(), s.get("expr")) {
            (None, Some(expr)) => self.given(expr, scope, Sees::step(bound)),
            (None, None) => {
                self.fault(s.at, format!("expected a text, or `{{expr: …}}`, found {}", s.kind()));
                Given::Value(Default::default())
            }
            (Some(text), _) => Given::Value(text.into()),
        });
        let tools = match fields.get("tools") {
            Some(tree) => self.tool_names(tree, scope),
            None => Vec::new(),
        };
        let tags = fields.get("tags").map(|t| self.names(t)).unwrap_or_default();
        let write = self.write_channel(&fields, scope);
        if messages.is_none() && scope.channel("messages").is_none() {
            self.fault(tree.at, "the state has no channel `messages`; say with `messages` what the model is given");
        }
        let name = fields.get("model").and_then(|m| Some((self.text(m)?.clone(), m.at)));
        let bind = self.bind(fields.get("as"), "reply", bound);
        let Some((name, at)) = name else {
            if fields.get("model").is_none() {
                self.fault(tree.at, "`chat_model` needs a `model`");
            }
            return None;
        };
        if !self.known("model", &name, at, scope.models.keys()) {
            return None;
        }
        Some(Step::Chat(Chat {
            model: scope.models.get(&name)?.clone(),
            messages,
            is_normal: scope.holds_messages("messages"),
            system,
            tools: tools.iter().filter_map(|t| Some(scope.tools.get(t)?.spec.clone())).collect(),
            write,
            bind,
            tags: tags.into_iter().map(|(tag, _)| tag).collect(),
        }))
    }

    /// The channel that takes a model's answer, and whether it gathers a list; none where it is written nowhere.
    fn write_channel(&mut self, fields: &super::Fields<'_>, scope: &Scope<'_>) -> Option<(Arc<str>, bool)> {
        let (name, at) = match fields.get("write") {
            Some(tree) => (self.text(tree)?.clone(), tree.at),
            None => ("messages".into(), fields.at),
        };
        if name.is_empty() {
            return None;
        }
        match scope.channel(&name) {
            Some(channel) => Some((name, matches!(channel.reducer, Reducer::Messages | Reducer::Append))),
            None => {
                let near = or_known(&name, scope.channels.iter().map(|c| &*c.name));
                self.fault(
                    at,
                    format!(
                        "the answer goes to channel `{name}`, which is not there{near}; `write: \"\"` writes it nowhere"
                    ),
                );
                None
            }
        }
    }

    fn tool_names(&mut self, tree: &Tree, scope: &Scope<'_>) -> Vec<Arc<str>> {
        let names = self.names(tree);
        names.into_iter().filter(|(n, at)| self.known("tool", n, *at, scope.tools.keys())).map(|(n, _)| n).collect()
    }

    fn run_tools(&mut self, tree: &Tree, scope: &Scope<'_>) -> Step {
        if tree.is_null() {
            self.fault(tree.at, "`tools` needs a map; `tools: {}` runs them all");
            return Step::Tools(RunTools { tools: scope.tools.clone(), messages: "".into(), handle_errors: true });
        }
        let fields = self.fields(tree, &["tools", "messages", "handle_errors"]);
        let mut tools = scope.tools.clone();
        if let Some(names) = fields.get("tools") {
            let names = self.tool_names(names, scope);
            tools.retain(|name, _| names.contains(name));
        } else if tools.is_empty() {
            self.fault(tree.at, "the document has no `tools` to run");
        }
        let messages = fields.get("messages").and_then(|m| Some((self.text(m)?.clone(), m.at)));
        let (messages, at) = messages.unwrap_or_else(|| ("messages".into(), tree.at));
        self.known("channel", &messages, at, scope.channels.iter().map(|c| &c.name));
        let handle_errors = self.field(&fields, "handle_errors", |r, t| r.bool(t)).unwrap_or(true);
        Step::Tools(RunTools { tools, messages, handle_errors })
    }
}

/// Names that expressions have already.
const RESERVED: [&str; 6] = ["state", "context", "config", "attempt", "args", "result"];

fn is_identifier(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(is_word)
}
