//! Threads, runs, assistants and items as LangGraph's server shows them.

use std::time::SystemTime;

use runloom_core::{
    CronRun, Error, RunSpec, Schemas, Start,
    store::{Assistant, Cron, Expiry, Run, RunStatus, Thread},
};
use runloom_engine::{Object, Value, graph::Drawing, items::Item};

use super::{StreamMode, error_object, iso};

/// The fields of a thread.
pub const THREAD_FIELDS: &[&str] = &[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "status",
    "config",
    "values",
    "error",
    "interrupts",
    "context",
    "ttl",
];
/// The fields of a run.
pub const RUN_FIELDS: &[&str] = &[
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
];
/// The fields of an assistant.
pub const ASSISTANT_FIELDS: &[&str] = &[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "metadata",
    "version",
    "created_at",
    "updated_at",
];
/// The fields of a cron.
pub const CRON_FIELDS: &[&str] = &[
    "cron_id",
    "assistant_id",
    "thread_id",
    "schedule",
    "timezone",
    "end_time",
    "enabled",
    "next_run_date",
    "on_run_completed",
    "payload",
    "metadata",
    "user_id",
    "now",
    "created_at",
    "updated_at",
];

/// The state of a run in LangGraph's words.
pub fn run_status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        // A run that stopped at a question did what it could; its thread is `interrupted`.
        RunStatus::Succeeded | RunStatus::AwaitingInput => "success",
        RunStatus::Failed => "error",
        RunStatus::TimedOut => "timeout",
        RunStatus::Cancelled => "interrupted",
    }
}

/// The states that a word of LangGraph's stands for.
pub fn statuses(word: &str) -> Option<Vec<RunStatus>> {
    const ALL: [RunStatus; 7] = [
        RunStatus::Pending,
        RunStatus::Running,
        RunStatus::Succeeded,
        RunStatus::AwaitingInput,
        RunStatus::Failed,
        RunStatus::TimedOut,
        RunStatus::Cancelled,
    ];
    let found: Vec<RunStatus> = ALL.into_iter().filter(|s| run_status(*s) == word).collect();
    (!found.is_empty()).then_some(found)
}

/// The stream modes of a run: those its client named, or those it records.
pub fn modes(spec: &RunSpec) -> Vec<StreamMode> {
    let named = spec.notes.get(API, "stream_mode").and_then(Value::as_list);
    if let Some(named) = named {
        return named.iter().filter_map(|m| StreamMode::parse(m.as_str()?)).collect();
    }
    let recorded = spec.recording.modes().iter().filter_map(|mode| StreamMode::parse(mode.row().http.first()?));
    recorded.collect()
}

/// Whether a run records its subgraphs for mode `lifecycle` alone.
pub fn hides_subgraphs(spec: &RunSpec) -> bool {
    spec.notes.get(API, "hides_subgraphs").is_some()
}

/// Settings without what is private to a server.
pub fn public(configurable: &Object) -> Object {
    let shown = configurable.iter().filter(|(key, _)| !key.starts_with("__"));
    shown.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What a run's configuration has beside its client's settings.
pub fn configurable(run: &Run, spec: &RunSpec) -> Object {
    let mut all = public(&spec.options.configurable);
    all.insert("run_id", run.id.to_string());
    all.insert("thread_id", run.thread.to_string());
    all.insert("graph_id", run.graph.as_str());
    all.insert("assistant_id", Value::from(run.assistant.map(|a| a.to_string())));
    all
}

/// A run.
pub fn run(run: &Run) -> Object {
    let spec = RunSpec::of(run);
    object! {
        "run_id" => run.id.to_string(),
        "thread_id" => run.thread.to_string(),
        "assistant_id" => Value::from(run.assistant.map(|a| a.to_string())),
        "metadata" => spec.options.metadata.clone(),
        "status" => run_status(run.status),
        "kwargs" => kwargs(run, &spec),
        "multitask_strategy" => run.multitask.name(),
        "created_at" => iso(run.created_at),
        "updated_at" => iso(run.updated_at),
    }
}

fn kwargs(run: &Run, spec: &RunSpec) -> Object {
    let asked = |key: &str| spec.notes.get(API, key).cloned().unwrap_or_default();
    let (input, command) = match &spec.options.start {
        Start::Resume => (Value::Null, Value::Null),
        Start::Input(input) => (input.clone(), Value::Null),
        Start::Command(_) => (Value::Null, asked("command")),
    };
    object! {
        "input" => input,
        "command" => command,
        "config" => config(spec, configurable(run, spec)),
        "context" => if spec.options.context.is_null() { Value::object() } else { spec.options.context.clone() },
        "stream_mode" => modes(spec).iter().map(|m| Value::from(m.name())).collect::<Vec<_>>(),
        "interrupt_before" => names(&spec.options.interrupt_before),
        "interrupt_after" => names(&spec.options.interrupt_after),
        "webhook" => Value::from(spec.delivery.webhook.clone()),
        "feedback_keys" => asked("feedback_keys"),
        "temporary" => run.stateless,
        "subgraphs" => spec.recording.subgraphs,
        "resumable" => true,
        "durability" => if spec.options.durability.is_empty() { "async" } else { spec.options.durability.as_str() },
    }
}

fn names(names: &[String]) -> Value {
    match names {
        [] => Value::Null,
        [all] if all == "*" => Value::from("*"),
        names => Value::from(names.to_vec()),
    }
}

fn config(spec: &RunSpec, configurable: Object) -> Object {
    let mut config = object! { "configurable" => configurable, "metadata" => spec.options.metadata.clone() };
    if spec.options.recursion_limit > 0 {
        config.insert("recursion_limit", u64::from(spec.options.recursion_limit));
    }
    if !spec.options.tags.is_empty() {
        config.insert("tags", spec.options.tags.clone());
    }
    config
}

/// A cron. What it asks of its runs is its payload.
pub fn cron(cron: &Cron) -> Object {
    let time = |time: Option<SystemTime>| Value::from(time.map(iso));
    object! {
        "cron_id" => cron.id.to_string(),
        "assistant_id" => cron.assistant.to_string(),
        "thread_id" => Value::from(cron.thread.map(|id| id.to_string())),
        "on_run_completed" => match (cron.thread, cron.keep) {
            (Some(_), _) => Value::Null,
            (None, true) => "keep".into(),
            (None, false) => "delete".into(),
        },
        "end_time" => time(cron.end_at),
        "schedule" => cron.schedule.as_str(),
        "timezone" => Value::from(cron.timezone.clone()),
        "created_at" => iso(cron.created_at),
        "updated_at" => iso(cron.updated_at),
        "payload" => payload(cron),
        "user_id" => Value::from((!cron.tenant.is_default()).then(|| cron.tenant.to_string())),
        "next_run_date" => time(cron.next_at),
        "metadata" => cron.metadata.clone(),
        "enabled" => cron.enabled,
    }
}

/// The name under which this API stores notes with a run.
pub const API: &str = "langgraph";

/// The note that holds a cron's request, word for word.
pub const CRON: &str = "cron";

/// What a cron asks of its runs: word for word, where it was made here.
fn payload(cron: &Cron) -> Object {
    let run = CronRun::of(cron);
    let spec = &run.spec;
    if let Some(asked) = spec.notes.get(API, CRON).and_then(Value::as_object) {
        let mut asked = asked.clone();
        asked.insert("assistant_id", cron.assistant.to_string());
        let mut config = asked.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut settings = config.get("configurable").and_then(Value::as_object).cloned().unwrap_or_default();
        settings.insert("cron_id", cron.id.to_string());
        config.insert("configurable", settings);
        asked.insert("config", config);
        return asked;
    }
    let mut settings = public(&spec.options.configurable);
    settings.insert("cron_id", cron.id.to_string());
    let mut payload = object! {
        "assistant_id" => cron.assistant.to_string(),
        "schedule" => cron.schedule.as_str(),
        "config" => config(spec, settings),
        "metadata" => cron.metadata.clone(),
        "stream_mode" => modes(spec).iter().map(|m| Value::from(m.name())).collect::<Vec<_>>(),
        "stream_subgraphs" => spec.recording.subgraphs,
        "multitask_strategy" => run.multitask().name(),
        "durability" => if spec.options.durability.is_empty() { "async" } else { spec.options.durability.as_str() },
    };
    if let Start::Input(input) = &spec.options.start {
        payload.insert("input", input.clone());
    }
    let given = [
        ("context", spec.options.context.clone()),
        ("interrupt_before", names(&spec.options.interrupt_before)),
        ("interrupt_after", names(&spec.options.interrupt_after)),
        ("webhook", Value::from(spec.delivery.webhook.clone())),
        ("timezone", Value::from(cron.timezone.clone())),
    ];
    given.into_iter().filter(|(_, value)| !value.is_null()).for_each(|(key, value)| payload.insert(key, value));
    payload
}

/// A thread. `values` is none for a thread that never ran.
pub fn thread(thread: &Thread, values: Option<Value>) -> Object {
    let mut o = thread_head(thread);
    o.insert("values", values.clone().unwrap_or_default());
    if thread.graph.is_some() || values.is_some() {
        o.insert("error", thread.error.as_ref().map_or(Value::Null, |e| error_object(&Error::from_value(e))));
        o.insert("interrupts", thread.interrupts.clone().unwrap_or_else(Value::object));
    }
    o
}

/// A thread without what its runs left.
pub fn thread_head(thread: &Thread) -> Object {
    let mut config = thread.config.clone();
    if let Some(configurable) = config.get("configurable").and_then(Value::as_object) {
        let shown = public(configurable);
        config.insert("configurable", shown);
    }
    object! {
        "thread_id" => thread.id.to_string(),
        "created_at" => iso(thread.created_at),
        "updated_at" => iso(thread.updated_at),
        "state_updated_at" => iso(thread.state_updated_at.unwrap_or(thread.created_at)),
        "metadata" => thread.metadata.clone(),
        "status" => thread.status.name(),
        "config" => config,
    }
}

/// When a thread goes, and how.
pub fn expiry(expiry: &Expiry) -> Object {
    let left = expiry.at.duration_since(SystemTime::now()).unwrap_or_default();
    object! {
        "strategy" => if expiry.keep_latest { "keep_latest" } else { "delete" },
        "ttl_minutes" => left.as_secs_f64() / 60.0,
        "expires_at" => iso(expiry.at),
    }
}

/// An assistant. Its context is shown as its configuration's `configurable` too, as clients of old look for it.
pub fn assistant(assistant: &Assistant) -> Object {
    let mut config = assistant.config.clone();
    if let (false, Some(context)) = (config.contains_key("configurable"), assistant.context.as_object())
        && !context.is_empty()
    {
        config.insert("configurable", context.clone());
    }
    object! {
        "assistant_id" => assistant.id.to_string(),
        "graph_id" => assistant.graph.as_str(),
        "config" => config,
        "context" => if assistant.context.is_null() { Value::object() } else { assistant.context.clone() },
        "metadata" => assistant.metadata.clone(),
        "name" => assistant.name.as_str(),
        "created_at" => iso(assistant.created_at),
        "updated_at" => iso(assistant.updated_at),
        "version" => u64::from(assistant.version),
        "description" => Value::from(assistant.description.clone()),
    }
}

/// One of the versions of an assistant.
pub fn assistant_version(version: &Assistant) -> Object {
    let mut o = assistant(version);
    o.remove("updated_at");
    o
}

/// A graph as nodes and edges.
pub fn drawing(drawing: &Drawing) -> Object {
    let nodes = drawing.nodes.iter().map(|node| {
        let mut o = object! { "id" => &node.id };
        if &*node.id != "__end__" {
            o.insert("type", "runnable");
            o.insert("data", object! { "name" => &node.id });
        }
        let mut metadata = node.metadata.clone();
        if node.defer {
            metadata.insert("defer", true);
        }
        match node.stops {
            (true, true) => metadata.insert("__interrupt", "before,after"),
            (true, false) => metadata.insert("__interrupt", "before"),
            (false, true) => metadata.insert("__interrupt", "after"),
            (false, false) => {}
        }
        if !metadata.is_empty() {
            o.insert("metadata", metadata);
        }
        Value::Object(o)
    });
    // Two routes to one node are one edge, which has no name.
    let mut seen = std::collections::HashSet::new();
    let edges = drawing.edges.iter().filter(|edge| seen.insert((&edge.source, &edge.target, edge.conditional)));
    let edges = edges.map(|edge| {
        let mut o = object! { "source" => &edge.source, "target" => &edge.target };
        if edge.conditional {
            o.insert("conditional", true);
        }
        Value::Object(o)
    });
    object! { "nodes" => nodes.collect::<Vec<_>>(), "edges" => edges.collect::<Vec<_>>() }
}

/// What a graph takes and gives.
pub fn schemas(schemas: &Schemas) -> Object {
    object! {
        "graph_id" => schemas.graph.as_str(),
        "input_schema" => schemas.input.clone(),
        "output_schema" => schemas.output.clone(),
        "state_schema" => schemas.state.clone(),
        "config_schema" => schemas.config.clone(),
        "context_schema" => schemas.context.clone().unwrap_or_default(),
    }
}

/// What a graph inside another takes and gives.
pub fn inner_schemas(inner: &Schemas) -> Object {
    let mut o = schemas(inner);
    o.remove("graph_id");
    if inner.context.is_none() {
        o.insert("config_schema", Value::object());
    }
    o
}

/// An item of the store.
pub fn item(item: &Item) -> Object {
    object! {
        "namespace" => item.namespace.clone(),
        "key" => item.key.as_str(),
        "value" => item.value.clone(),
        "created_at" => iso(item.created_at),
        "updated_at" => iso(item.updated_at),
    }
}
