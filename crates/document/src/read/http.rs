//! Reading `http`, of a node and of a tool.

use std::{sync::Arc, time::Duration};

use runloom_engine::Value;
use runloom_tools::http::{DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT};

use super::{
    Fields, Reader,
    given::{Given, Scope, Sees},
};
use crate::{
    run::{HeaderOf, HttpCall, Part},
    tree::{Data, Tree},
};

/// The parts of a call.
pub(super) const PARTS: [&str; 7] = ["method", "url", "query", "headers", "body", "timeout_ms", "max_bytes"];

/// The methods that stand for themselves: as expressions they would be names.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Reader<'_> {
    /// A call, of fields that may hold others beside its parts.
    pub fn http_call(&mut self, fields: &Fields<'_>, scope: &Scope<'_>, sees: Sees<'_>) -> Option<HttpCall> {
        let method = fields.get("method").map(|tree| match tree.as_text() {
            Some(text) if METHODS.contains(&&**text) => Given::Value(text.into()),
            _ => self.within("method", |r| r.given(tree, scope, sees)),
        });
        let query = fields
            .get("query")
            .map(|q| self.within("query", |r| r.parts(q, scope, sees, |r, value| r.given(value, scope, sees))));
        let headers = fields
            .get("headers")
            .map(|h| self.within("headers", |r| r.parts(h, scope, sees, |r, value| r.header(value, scope, sees))));
        let body = fields.get("body").map(|body| self.within("body", |r| r.given(body, scope, sees)));
        let timeout = self.field(fields, "timeout_ms", |r, t| r.integer(t, 1)).map(Duration::from_millis);
        let max_bytes = self.field(fields, "max_bytes", |r, t| r.integer(t, 1));
        let Some(url) = fields.get("url") else {
            self.fault(fields.at, "`http` needs a `url`: an expression, and so a text within it: '\"https://…\"'");
            return None;
        };
        let url = match url.as_text() {
            // Nobody means anything else by it, and as an expression it would be a strange fault.
            Some(text) if ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) => {
                let message = format!("`url` is an expression: write a text within it, '\"{text}\"'");
                self.within("url", |r| r.fault(url.at, message));
                return None;
            }
            _ => self.within("url", |r| r.given(url, scope, sees)),
        };
        Some(HttpCall {
            client: scope.http.clone(),
            method,
            url,
            query,
            headers,
            body,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            max_bytes: max_bytes.map_or(DEFAULT_MAX_BYTES, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        })
    }

    /// Parts by name, or an expression that makes an object of them.
    fn parts<T>(
        &mut self,
        tree: &Tree,
        scope: &Scope<'_>,
        sees: Sees<'_>,
        read: impl Fn(&mut Self, &Tree) -> T,
    ) -> Part<T> {
        match &tree.data {
            Data::Map(entries) => {
                let each =
                    entries.iter().map(|(key, value)| (key.name.clone(), self.within(&*key.name, |r| read(r, value))));
                Part::Fields(each.collect())
            }
            _ => Part::Whole(self.given(tree, scope, sees)),
        }
    }

    /// A header: an expression, or a variable of the environment.
    fn header(&mut self, tree: &Tree, scope: &Scope<'_>, sees: Sees<'_>) -> HeaderOf {
        let Data::Map(_) = &tree.data else { return HeaderOf::Given(self.given(tree, scope, sees)) };
        let fields = self.fields(tree, &["env", "prefix"]);
        let mut text = |name: &str| self.field(&fields, name, |r, t| r.text(t)).cloned();
        let (env, prefix) = (text("env"), text("prefix"));
        let Some(name) = env else {
            if fields.get("env").is_none() {
                self.fault(tree.at, "a header is an expression, or `{env: VARIABLE, prefix: \"Bearer \"}`");
            }
            return HeaderOf::Given(Given::Value(Value::Null));
        };
        HeaderOf::Env { name, prefix: prefix.unwrap_or_else(|| Arc::from("")) }
    }
}
