//! The description of the API for programs (OpenAPI 3.1), made of the table of endpoints.

use std::sync::LazyLock;

use runloom_engine::{Object, Value, value};

use crate::{
    crons::SORTS,
    face::MOST_MINUTES,
    langgraph::records,
    routes::{Endpoint, Gives, Is, MODES, MOST, endpoints},
};

static DESCRIPTION: LazyLock<Object> = LazyLock::new(describe);

/// The description.
pub(crate) fn description() -> &'static Object {
    &DESCRIPTION
}

fn describe() -> Object {
    let mut paths = Object::default();
    for endpoint in endpoints() {
        let mut ways = paths.get(endpoint.path).and_then(Value::as_object).cloned().unwrap_or_default();
        let method = if endpoint.method == "any" { "get" } else { endpoint.method };
        ways.insert(method, way(&endpoint));
        paths.insert(endpoint.path, ways);
    }
    object! {
        "openapi" => "3.1.0",
        "info" => value!({
            "title": "Runloom over HTTP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "LangGraph's API over Runloom's threads and runs. Errors are {\"detail\": …}.",
        }),
        "paths" => paths,
        "components" => object! { "schemas" => schemas() },
    }
}

fn way(endpoint: &Endpoint) -> Object {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| {
            let is_free = name == "namespace" || endpoint.path.ends_with("/graph");
            let schema =
                if is_free { value!({"type": "string"}) } else { value!({"type": "string", "format": "uuid"}) };
            value!({"name": name, "in": "path", "required": true, "schema": schema.to_json()})
        })
        .collect();
    for (name, is, about) in endpoint.query {
        let is_needed = endpoint.path == "/store/items" && *name == "key";
        parameters.push(Value::Object(object! {
            "name" => *name, "in" => "query", "required" => is_needed, "description" => *about, "schema" => schema_of(*is),
        }));
    }
    let id: String = format!("{}_{}", endpoint.method, endpoint.path)
        .chars()
        .filter(|c| !"{}".contains(*c))
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let mut way = object! {
        "summary" => endpoint.about,
        "operationId" => id,
        "tags" => vec![endpoint.tag],
        "parameters" => parameters,
        "responses" => responses(endpoint),
    };
    if !endpoint.takes.is_empty() {
        let schema = format!("#/components/schemas/{}", endpoint.takes);
        way.insert(
            "requestBody",
            value!({"required": true, "content": {"application/json": {"schema": {"$ref": schema}}}}),
        );
    }
    way
}

/// The schema of a query parameter.
fn schema_of(is: Is) -> Value {
    let words = |words: &[&str]| Value::from(words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>());
    match is {
        Is::Text => value!({"type": "string"}),
        Is::Like(pattern) => value!({"type": "string", "pattern": pattern}),
        Is::Flag => value!({"type": "boolean"}),
        Is::Id => value!({"type": "string", "format": "uuid"}),
        Is::Number(least, most) => value!({"type": "integer", "minimum": least, "maximum": most}),
        Is::Word(known) => Value::Object(object! { "enum" => words(known) }),
        Is::Words(known) => Value::Object(object! { "type" => "array", "items" => object! { "enum" => words(known) } }),
    }
}

fn responses(endpoint: &Endpoint) -> Object {
    let any = || value!({"description": "done", "content": {"application/json": {"schema": {}}}});
    let of = |kind: &str, about: &str| {
        let content = Object::from_iter([(std::sync::Arc::from(kind), value!({"schema": {"type": "string"}}))]);
        object! { "description" => about, "content" => content }
    };
    let error = || {
        let schema = value!({"$ref": "#/components/schemas/Error"});
        object! {
            "description" => "why not",
            "content" => object! { "application/json" => object! { "schema" => schema } },
        }
    };
    let mut all = Object::default();
    match endpoint.gives {
        Gives::Json => all.insert("200", any()),
        Gives::Nothing => all.insert("204", value!({"description": "done"})),
        Gives::Accepted => {
            all.insert("200", any());
            all.insert("202", value!({"description": "it is under way"}));
        }
        Gives::Stream => {
            all.insert("200", of("text/event-stream", "events, each with a name, data and an id"));
            all.insert("204", value!({"description": "there is nothing more to come"}));
        }
        Gives::Text => {
            let mut both = of("text/plain", "for Prometheus");
            if let Some(Value::Object(content)) = both.get("content") {
                let mut content = content.clone();
                content.insert("application/json", value!({"schema": {}}));
                both.insert("content", content);
            }
            all.insert("200", both);
        }
        Gives::Html => all.insert("200", of("text/html", "a page")),
        Gives::Socket => all.insert("101", value!({"description": "the connection is a WebSocket"})),
    }
    for status in ["400", "404", "405", "409", "413", "422", "503"] {
        all.insert(status, error());
    }
    if endpoint.gives == Gives::Socket {
        all.insert("403", error());
        all.insert("426", error());
    }
    all
}

fn without(fields: &Value, names: &[&str]) -> Value {
    let mut fields = fields.as_object().cloned().unwrap_or_default();
    for name in names {
        fields.remove(name);
    }
    Value::Object(fields)
}

fn schemas() -> Object {
    let object = |required: &[&str], fields: Value| value!({"type": "object", "required": required, "properties": fields.to_json(), "additionalProperties": true});
    let strings = || value!({"type": "array", "items": {"type": "string"}}).to_json();
    let maybe = |kind: &str| value!({"type": [kind, "null"]}).to_json();
    let one_or_more = || {
        value!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]})
            .to_json()
    };
    let word = |words: &[&str]| value!({"enum": words}).to_json();
    let number = |least: u64, most: u64| value!({"type": "integer", "minimum": least, "maximum": most}).to_json();
    let page = || (number(1, MOST), number(0, 1 << 53));
    let modes = MODES.to_vec();
    let some = |words: &[&str]| value!({"type": "array", "items": {"enum": words.to_vec()}}).to_json();
    let id = || value!({"type": ["string", "null"], "format": "uuid"}).to_json();
    let ids = || value!({"type": "array", "items": {"type": "string", "format": "uuid"}}).to_json();
    let ttl = || {
        value!({"description": "minutes; or those with what becomes of the thread", "anyOf": [
        {"type": "null"},
        {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_MINUTES},
        {"type": "object", "properties": {
            "ttl": {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_MINUTES},
            "strategy": {"enum": ["delete", "keep_latest"]}}}]})
        .to_json()
    };
    let (limit, offset) = page();
    let run = value!({
        "assistant_id": {"type": "string", "description": "the id of an assistant, or the name of a graph"},
        "input": {"description": "the graph's input; none to go on"},
        "command": {"type": ["object", "null"], "properties": {"resume": {}, "update": {}, "goto": {}}},
        "config": {"type": ["object", "null"], "properties": {
            "recursion_limit": number(1, u32::MAX.into()), "max_concurrency": number(1, u32::MAX.into()),
            "tags": strings(), "configurable": maybe("object"), "metadata": maybe("object")}},
        "context": {},
        "metadata": maybe("object"),
        "stream_mode": {"anyOf": [{"enum": modes}, {"type": "array", "items": {"enum": modes}}, {"type": "null"}]},
        "stream_subgraphs": maybe("boolean"),
        "interrupt_before": one_or_more(), "interrupt_after": one_or_more(),
        "checkpoint": maybe("object"), "checkpoint_id": id(),
        "durability": word(&["sync", "async", "exit"]),
        "multitask_strategy": word(&["enqueue", "reject", "interrupt", "rollback"]),
        "if_not_exists": word(&["create", "reject"]),
        "on_disconnect": word(&["cancel", "continue"]),
        "on_completion": word(&["delete", "keep"]),
        "after_seconds": {"type": ["number", "null"], "minimum": 0, "maximum": 315_360_000},
        "webhook": {"type": ["string", "null"], "format": "uri"},
        "feedback_keys": {"type": ["array", "null"], "items": {"type": "string"}},
        "event_filter": {"type": ["object", "null"], "properties": {
            "include": {"type": "object"}, "exclude": {"type": "object"}, "skip_empty_chunks": {"type": "boolean"}}},
    });
    let cron = || {
        let mut fields = run.as_object().cloned().unwrap_or_default();
        // Those of a single run.
        for key in ["command", "checkpoint", "checkpoint_id", "if_not_exists", "on_completion", "after_seconds"] {
            fields.remove(key);
        }
        let own = value!({
            "schedule": {"type": "string", "description": "five fields, or six with the seconds last"},
            "timezone": maybe("string"), "end_time": {"type": ["string", "null"], "format": "date-time"},
            "enabled": maybe("boolean"), "on_run_completed": word(&["delete", "keep"]),
        });
        own.as_object().into_iter().flat_map(Object::iter).for_each(|(k, v)| fields.insert(k.clone(), v.clone()));
        Value::Object(fields)
    };
    let assistant = value!({
        "graph_id": {"type": "string"}, "name": maybe("string"), "description": maybe("string"),
        "config": maybe("object"), "context": maybe("object"), "metadata": maybe("object"),
        "assistant_id": {"type": ["string", "null"], "format": "uuid"}, "if_exists": word(&["raise", "do_nothing"]),
    });
    let state = value!({"checkpoint": {"type": "object"}, "checkpoint_id": id(), "subgraphs": maybe("boolean")});
    let parts =
        || value!({"type": "array", "items": {"type": "string", "minLength": 1, "pattern": "^[^.]+$"}}).to_json();
    let namespace = || {
        let mut parts = parts();
        parts["minItems"] = 1.into();
        parts
    };
    let key = || value!({"type": "string", "minLength": 1}).to_json();
    object! {
        "Error" => value!({"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}),
        "Cron" => object(&["assistant_id", "schedule"], cron()),
        "CronPatch" => {
            let mut patch = object(&[], without(&cron(), &["assistant_id"]));
            if let Value::Object(patch) = &mut patch {
                patch.insert("minProperties", 1u64);
            }
            patch
        },
        "CronSearch" => object(&[], value!({
            "assistant_id": id(), "thread_id": id(), "enabled": maybe("boolean"), "metadata": maybe("object"), "limit": page().0, "offset": page().1,
            "sort_by": word(&SORTS), "sort_order": word(&["asc", "desc"]), "select": some(records::CRON_FIELDS)})),
        "Run" => object(&["assistant_id"], run),
        "Runs" => value!({"type": "array", "items": {"$ref": "#/components/schemas/Run"}, "maxItems": 1000}),
        "CancelMany" => value!({"anyOf": [
            {"type": "object", "required": ["status"], "properties": {"status": {"enum": ["pending", "running", "all"]}}},
            {"type": "object", "required": ["thread_id", "run_ids"], "properties": {
                "thread_id": {"type": "string", "format": "uuid"}, "run_ids": ids()}}]}),
        "Assistant" => object(&["graph_id"], assistant.clone()),
        "AssistantPatch" => object(&[], without(&assistant, &["assistant_id", "if_exists"])),
        "AssistantSearch" => object(&[], value!({
            "metadata": maybe("object"), "graph_id": maybe("string"), "name": maybe("string"), "limit": limit, "offset": offset,
            "sort_by": word(&["assistant_id", "graph_id", "name", "created_at", "updated_at"]),
            "sort_order": word(&["asc", "desc"]), "select": some(records::ASSISTANT_FIELDS)})),
        "Versions" => object(&[], value!({"metadata": maybe("object"), "limit": page().0, "offset": page().1})),
        "Latest" => object(&["version"], value!({"version": number(1, u32::MAX.into())})),
        "Thread" => object(&[], value!({
            "thread_id": {"type": ["string", "null"], "format": "uuid"}, "metadata": maybe("object"),
            "if_exists": word(&["raise", "do_nothing"]), "graph_id": maybe("string"), "supersteps": maybe("array"),
            "ttl": ttl()})),
        "ThreadPatch" => object(&[], value!({"metadata": maybe("object"), "ttl": ttl()})),
        "ThreadSearch" => object(&[], value!({
            "metadata": maybe("object"), "values": maybe("object"), "ids": ids(),
            "status": word(&["idle", "busy", "interrupted", "error"]), "limit": page().0, "offset": page().1,
            "sort_by": word(&["thread_id", "status", "created_at", "updated_at", "state_updated_at"]),
            "sort_order": word(&["asc", "desc"]), "select": some(records::THREAD_FIELDS),
            "extract": {"type": ["object", "null"], "additionalProperties": {"type": "string"}}})),
        "Command" => object(&["id", "method"], value!({
            "id": {"type": "integer"}, "method": {"type": "string"}, "params": maybe("object")})),
        "Subscription" => object(&["channels"], value!({
            "channels": {"type": "array", "minItems": 1, "items": {"type": "string",
                "pattern": "^(values|updates|messages|tools|lifecycle|input|checkpoints|tasks|custom|custom:.+)$"}},
            "namespaces": {}, "depth": {}, "since": {}})),
        "Prune" => object(&["thread_ids"], value!({"thread_ids": ids(), "strategy": word(&["delete", "keep_latest"])})),
        "StateUpdate" => object(&[], value!({
            "values": {"type": ["object", "null"]}, "as_node": maybe("string"),
            "checkpoint": maybe("object"), "checkpoint_id": id()})),
        "StateQuery" => object(&["checkpoint"], state),
        "History" => object(&[], value!({
            "limit": page().0, "before": {"anyOf": [id(), {"type": "object"}]}, "metadata": maybe("object"),
            "checkpoint": maybe("object")})),
        "Item" => object(&["namespace", "key", "value"], value!({
            "namespace": namespace(), "key": key(), "value": {"type": "object"},
            "ttl": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MOST_MINUTES, "description": "minutes"},
            "index": {}})),
        "ItemKey" => object(&["namespace", "key"], value!({"namespace": namespace(), "key": key()})),
        "ItemSearch" => object(&[], value!({
            "namespace_prefix": parts(), "filter": maybe("object"), "query": maybe("string"), "refresh_ttl": maybe("boolean"),
            "limit": page().0, "offset": page().1})),
        "Namespaces" => object(&[], value!({
            "prefix": parts(), "suffix": parts(), "max_depth": number(1, 1000), "limit": page().0, "offset": page().1})),
    }
}
