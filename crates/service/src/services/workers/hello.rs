//! What a worker says of itself, checked.

use std::{collections::HashSet, sync::Arc, time::Duration};

use runloom::v1::{self, JsonEncoding};
use runloom_workers::{Handler, HandlerKind, Hello, MAX_NAME_BYTES};
use tonic::Status;

use crate::check::Check;

/// The most handlers of a worker.
const MAX_HANDLERS: usize = 1_000;
/// The most documents that a worker brings.
const MAX_DOCUMENTS: usize = 100;
/// The longest text that describes something.
const MAX_TEXT: usize = 4_096;
/// The largest JSON Schema, in bytes.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// How long a worker may be silent: by default, at least, at most.
const HEARTBEAT: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(1), Duration::from_secs(600)];

/// What a worker said of itself.
pub(super) struct Greeting {
    pub hello: Hello,
    pub documents: Vec<String>,
    pub heartbeat_timeout: Duration,
    pub caches_state: bool,
    pub encoding: JsonEncoding,
}

/// Reads the first message of a worker.
pub(super) fn read(hello: v1::Hello, peer: String) -> Result<Greeting, Status> {
    let mut check = Check::default();
    let worker_id: uuid::Uuid = check.id("hello.worker_id", &hello.worker_id);
    let queue = name(&mut check, "hello.queue", &hello.queue);
    let text = |check: &mut Check, path: &str, text: String| check.text(path, text, MAX_TEXT);
    let sdk = text(&mut check, "hello.sdk", hello.sdk);
    let sdk_version = text(&mut check, "hello.sdk_version", hello.sdk_version);
    let description = text(&mut check, "hello.description", hello.description);
    if hello.handlers.len() > MAX_HANDLERS {
        let message =
            format!("has {} handlers: at most {MAX_HANDLERS} per worker; attach more workers", hello.handlers.len());
        check.fail("hello.handlers", message);
        check.done()?;
        return Err(Status::internal("too many handlers"));
    }
    if hello.documents.len() > MAX_DOCUMENTS {
        let message = format!("has {} documents: at most {MAX_DOCUMENTS} per worker", hello.documents.len());
        check.fail("hello.documents", message);
    }
    let mut seen = HashSet::new();
    let mut handlers = Vec::with_capacity(hello.handlers.len());
    for (at, handler) in hello.handlers.into_iter().enumerate() {
        let path = format!("hello.handlers[{at}]");
        let handler = self::handler(&mut check, &path, handler);
        if !seen.insert((handler.kind, handler.name.clone())) {
            check.fail(format!("{path}.name"), format!("a second {} handler `{}`", handler.kind.name(), handler.name));
        }
        handlers.push(handler);
    }
    let timeout = check.duration("hello.heartbeat_timeout", hello.heartbeat_timeout).filter(|t| !t.is_zero());
    let encoding = check.one_of("hello.json_encoding", hello.json_encoding);
    check.done()?;
    let [default, least, most] = HEARTBEAT;
    Ok(Greeting {
        hello: Hello { worker_id, queue, handlers, sdk, sdk_version, description, peer, max_tasks: hello.max_tasks },
        documents: hello.documents,
        heartbeat_timeout: timeout.unwrap_or(default).clamp(least, most),
        caches_state: hello.caches_state,
        // What VALUE cannot hold exactly is sent as text.
        encoding: match encoding {
            JsonEncoding::Unspecified | JsonEncoding::Text => JsonEncoding::Text,
            JsonEncoding::Value | JsonEncoding::Auto => JsonEncoding::Auto,
        },
    })
}

fn name(check: &mut Check, path: &str, name: &str) -> Arc<str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        check.fail(path, format!("has {} bytes: 1 to {MAX_NAME_BYTES} are allowed", name.len()));
    }
    name.into()
}

fn handler(check: &mut Check, path: &str, handler: v1::Handler) -> Handler {
    let kind = match v1::HandlerKind::try_from(handler.kind) {
        Ok(v1::HandlerKind::Node) => HandlerKind::Node,
        Ok(v1::HandlerKind::Tool) => HandlerKind::Tool,
        Ok(v1::HandlerKind::Route) => HandlerKind::Route,
        Ok(v1::HandlerKind::Reducer) => HandlerKind::Reducer,
        Ok(v1::HandlerKind::Unspecified) | Err(_) => {
            check.fail(format!("{path}.kind"), "missing: NODE, TOOL, ROUTE or REDUCER");
            HandlerKind::Node
        }
    };
    for (field, schema) in [("input_schema", &handler.input_schema), ("output_schema", &handler.output_schema)] {
        let size = schema.as_ref().map_or(0, prost::Message::encoded_len);
        if size > MAX_SCHEMA_BYTES {
            check.fail(format!("{path}.{field}"), format!("has {size} bytes: at most {MAX_SCHEMA_BYTES}"));
        }
    }
    Handler {
        name: name(check, &format!("{path}.name"), &handler.name),
        kind,
        description: check.text(&format!("{path}.description"), handler.description, MAX_TEXT),
        input_schema: check.json(format!("{path}.input_schema"), handler.input_schema),
    }
}
