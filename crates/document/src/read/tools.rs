//! Reading `tools`.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{Value, model::ToolSpec, value};
use runloom_retrievers::Retriever;
use runloom_tools::mcp::McpTool;
use runloom_workers::WorkerTool;

use super::{
    Fields, Reader,
    given::{Given, Scope, Sees},
};
use crate::{
    run::{HttpCall, McpWork},
    schema::Schema,
    tree::{Data, Tree},
};

/// A tool of a document.
#[derive(Debug)]
pub(crate) struct Tool {
    /// As a model is told of it.
    pub spec: ToolSpec,
    /// What its arguments have to fit.
    pub schema: Option<Schema>,
    /// Custom data told before it does its work.
    pub emit: Vec<Given>,
    /// A text fails it.
    pub fail: Option<Given>,
    /// What it does.
    pub work: Work,
}

/// What a tool does.
#[derive(Debug)]
pub(crate) enum Work {
    /// Gives what an expression comes to.
    Result(Given),
    /// Calls over HTTP, and gives the answer's body.
    Http(Box<HttpCall>),
    /// Calls a tool of an MCP server.
    Mcp(McpWork),
    /// Asks a retriever for what its argument `query` says.
    Retrieve { name: Arc<str>, retriever: Retriever, k: Option<usize> },
    /// Calls a handler of a worker.
    Worker(WorkerTool),
}

/// The ways to do it, of which a tool has one.
const WORKS: [&str; 5] = ["result", "http", "mcp", "retriever", "worker"];

impl Reader<'_> {
    /// The tools, by name.
    pub fn tools(&mut self, tree: &Tree, scope: &Scope<'_>) -> BTreeMap<Arc<str>, Arc<Tool>> {
        let entries = self.entries(tree);
        entries
            .iter()
            .map(|(key, tool)| {
                let tool = self.within(format!("tool `{}`", key.name), |r| r.tool(&key.name, tool, scope));
                (key.name.clone(), Arc::new(tool))
            })
            .collect()
    }

    fn tool(&mut self, name: &Arc<str>, tree: &Tree, scope: &Scope<'_>) -> Tool {
        let known = ["description", "parameters", "emit", "fail"].into_iter().chain(WORKS);
        let fields = self.fields(tree, &known.collect::<Vec<_>>());
        let description = self.field(&fields, "description", |r, t| r.text(t)).cloned();
        let (work, described) = self.work(name, tree, &fields, scope);
        let (parameters, schema) = match (fields.get("parameters"), &described) {
            (Some(tree), _) => (tree.to_value(), self.within("parameters", |r| r.schema(tree))),
            (None, Some(described)) => {
                let schema = Schema::compile(&described.parameters).map_err(|what| {
                    let message = format!(
                        "the server's schema of the arguments cannot be used, and they are not checked: {what}"
                    );
                    self.warn(tree.at, message);
                });
                (described.parameters.clone(), schema.ok())
            }
            (None, None) if matches!(work, Work::Retrieve { .. }) => {
                let parameters = super::retrievers::parameters();
                let schema = Schema::compile(&parameters).ok();
                (parameters, schema)
            }
            (None, None) => (value!({"type": "object", "properties": {}}), None),
        };
        let description = description.or_else(|| described.map(|described| described.description.into()));
        let given = |r: &mut Self, name: &str, tree: &Tree| r.within(name, |r| r.given(tree, scope, Sees::tool()));
        let emit = match fields.get("emit").map(|e| (e, &e.data)) {
            None => Vec::new(),
            Some((_, Data::List(items))) => items.iter().map(|item| given(self, "emit", item)).collect(),
            Some((one, _)) => vec![given(self, "emit", one)],
        };
        let fail = fields.get("fail").map(|f| given(self, "fail", f));
        Tool {
            spec: ToolSpec { name: name.clone(), description: description.unwrap_or_default(), parameters },
            schema,
            emit,
            fail,
            work,
        }
    }

    /// What a tool does, and what its server says of it.
    fn work(
        &mut self,
        name: &Arc<str>,
        tree: &Tree,
        fields: &Fields<'_>,
        scope: &Scope<'_>,
    ) -> (Work, Option<McpTool>) {
        let nothing = || (Work::Result(Given::Value(Value::Null)), None);
        let found: Vec<&str> = fields.names().filter(|name| WORKS.contains(name)).collect();
        let (key, work) = match (&found[..], found.first().and_then(|key| fields.raw(key))) {
            ([one], Some(work)) => (*one, work),
            ([first, second, ..], _) => {
                let message = format!("a tool does one thing, and this has `{first}` and `{second}`");
                self.fault(fields.place(second), message);
                return nothing();
            }
            _ => {
                let message = "a tool needs a `result`, an expression over `args`; or `http`, `mcp`, `retriever` or `worker`, to call out";
                self.fault(tree.at, message);
                return nothing();
            }
        };
        let read = self.within(key, |r| match key {
            "result" => Some((Work::Result(r.given(work, scope, Sees::tool())), None)),
            "http" => {
                let fields = r.fields(work, &super::http::PARTS);
                r.http_call(&fields, scope, Sees::tool()).map(|call| (Work::Http(Box::new(call)), None))
            }
            "mcp" => r.mcp(name, work, scope).map(|(work, described)| (Work::Mcp(work), described)),
            "retriever" => r.retriever_tool(work, scope).map(|work| (work, None)),
            _ => Some((Work::Worker(r.worker(work, Some(name))?.tool(name, scope)), None)),
        });
        read.unwrap_or_else(nothing)
    }

    /// A retriever by its name, or `{name, k}`.
    fn retriever_tool(&mut self, tree: &Tree, scope: &Scope<'_>) -> Option<Work> {
        let (named, k) = match &tree.data {
            Data::Map(_) => {
                let fields = self.fields(tree, &["name", "k"]);
                let k = self.field(&fields, "k", |r, t| r.integer(t, 1)).and_then(|k| usize::try_from(k).ok());
                let Some(name) = fields.get("name") else {
                    self.fault(tree.at, "`retriever` needs a `name`, one of the document's `retrievers`");
                    return None;
                };
                (name, k)
            }
            _ => (tree, None),
        };
        let name = self.text(named)?.clone();
        let retriever = self.named_retriever(&name, named.at, scope)?;
        Some(Work::Retrieve { name, retriever, k })
    }
}
