//! What a client asks of a run, as the core takes it.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use runloom_core::{
    CommandSpec, Delivery, FilterSpec, Notes, Recording, RunOptions, RunRequest, RunSpec, Selector, Start, Target,
};
use runloom_engine::{
    CheckpointId, Object, ThreadId, Value, is_question_id,
    stream::{MODES, Modes},
};

use crate::{
    face::{Call, Fail, Fields},
    langgraph::{StreamMode, records},
};

/// The kinds of events of tools.
pub(crate) const TOOL_KINDS: [&str; 3] = ["on_tool_start", "on_tool_end", "on_tool_error"];

/// A run that a client asks for.
#[derive(Clone)]
pub(crate) struct Asked {
    pub request: RunRequest,
    /// The modes its stream is to have.
    pub modes: Vec<StreamMode>,
    /// Settings that may stand for the context, where none was given.
    pub settings: Object,
}

/// The modes of names, in any spelling.
pub(crate) fn stream_modes(names: &[String]) -> Result<Vec<StreamMode>, Fail> {
    let mut modes = Vec::new();
    for name in names {
        let spelled = name.trim().trim_matches(['[', ']', '"', '\'']).to_ascii_lowercase().replace('_', "-");
        if spelled.is_empty() {
            continue;
        }
        let Some(mode) = StreamMode::parse(&spelled) else {
            let known: Vec<_> = MODES.iter().flat_map(|row| row.http.iter().rev().copied()).collect();
            let known = known.join(", ");
            return Err(Fail::invalid(format!("stream_mode: there is no mode `{name}`; there are {known}")));
        };
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

/// Which events a reader wants, by query parameters: `kind`, `name`, `node`, `tag`, `namespace`, and the same with
/// `exclude_` before.
pub(crate) fn event_filter(call: &Call) -> Result<FilterSpec, Fail> {
    let of = |before: &str| {
        let all = |name: &str| call.query_all(&[&format!("{before}{name}"), &format!("{before}{name}s")]);
        Selector {
            kinds: all("kind"),
            names: all("name"),
            nodes: all("node"),
            tags: all("tag"),
            namespaces: all("namespace"),
        }
    };
    let skip_empty_chunks = call.query_flag("skip_empty_chunks")?;
    Ok(FilterSpec { include: of(""), exclude: of("exclude_"), skip_empty_chunks })
}

fn selector(filter: &Fields<'_>, key: &str) -> Result<Selector, Fail> {
    let Some(object) = filter.object(key)? else { return Ok(Selector::default()) };
    let fields = Fields::within(object);
    let all = |key: &str| Ok::<_, Fail>(fields.text_or_texts(key)?.unwrap_or_default());
    Ok(Selector {
        kinds: all("kinds")?,
        names: all("names")?,
        nodes: all("nodes")?,
        tags: all("tags")?,
        namespaces: all("namespaces")?,
    })
}

impl Asked {
    /// Reads a body. `thread` is none for a stateless run.
    pub fn read(body: &Value, thread: Option<ThreadId>) -> Result<Self, Fail> {
        let fields = Fields::of(body)?;
        let Some(target) = fields.text("assistant_id")? else {
            return Err(Fail::invalid("assistant_id: is required: the id of an assistant, or the name of a graph"));
        };
        let target = match target.parse() {
            Ok(id) => Target::Assistant(id),
            Err(_) => Target::Graph(target.to_owned()),
        };
        let modes = stream_modes(&fields.text_or_texts("stream_mode")?.unwrap_or_default())?;
        let modes = if modes.is_empty() { vec![StreamMode::Values] } else { modes };

        let none = Object::default();
        let config = Fields::within(fields.object("config")?.unwrap_or(&none));
        let given = config.object("configurable")?.unwrap_or(&none);
        let context = fields.value("context").cloned().unwrap_or_default();
        let place =
            ["thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "graph_id", "assistant_id"];
        let settings: Object = given
            .iter()
            .filter(|(key, _)| !place.contains(&&***key) && !key.starts_with("__"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !settings.is_empty() && !context.is_null() && context.as_object().is_none_or(|c| !c.is_empty()) {
            let detail = "Cannot specify both configurable and context. Prefer setting context alone. Context was introduced \
                          in LangGraph 0.6.0 and is the long term planned replacement for configurable.";
            return Err(Fail::new(StatusCode::BAD_REQUEST, detail));
        }

        let start = start(&fields)?;
        if let (Start::Command(_), None) = (&start, thread) {
            return Err(Fail::new(StatusCode::BAD_REQUEST, "You must provide a thread_id when resuming."));
        }
        let mut metadata = config.object("metadata")?.cloned().unwrap_or_default();
        for (key, value) in fields.object("metadata")?.into_iter().flat_map(Object::iter) {
            metadata.insert(key.clone(), value.clone());
        }
        let (checkpoint_id, checkpoint_namespace) = checkpoint(&fields, given, &start)?;
        let mut noted = object! { "stream_mode" => modes.iter().map(|m| Value::from(m.name())).collect::<Vec<_>>() };
        for key in ["feedback_keys", "command"] {
            if let Some(value) = fields.value(key) {
                noted.insert(key, value.clone());
            }
        }

        let points = |key: &str| Ok::<_, Fail>(fields.text_or_texts(key)?.unwrap_or_default());
        let number = |key: &str| Ok::<_, Fail>(config.number(key, 1..=u64::from(u32::MAX))?.unwrap_or(0) as u32);
        let subgraphs = fields.flag("stream_subgraphs")?;
        let follows_subgraphs = modes.contains(&StreamMode::Lifecycle);
        if follows_subgraphs && !subgraphs {
            noted.insert("hides_subgraphs", true);
        }
        let mut filter = match fields.object("event_filter")? {
            None => FilterSpec::default(),
            Some(object) => {
                let filter = Fields::within(object);
                FilterSpec {
                    include: selector(&filter, "include")?,
                    exclude: selector(&filter, "exclude")?,
                    skip_empty_chunks: filter.flag("skip_empty_chunks")?,
                }
            }
        };
        let is_of_tools_alone = modes.contains(&StreamMode::Tools) && !modes.contains(&StreamMode::Events);
        if is_of_tools_alone && filter.include.kinds.is_empty() {
            filter.include.kinds = TOOL_KINDS.map(str::to_owned).to_vec();
        }
        // The one stands for the other: clients of old look for a context among the settings.
        let configurable = match &context {
            Value::Object(context) if settings.is_empty() => context.clone(),
            _ => settings.clone(),
        };
        let mut notes = Notes::default();
        noted.iter().for_each(|(key, value)| notes.set(records::API, key, value.clone()));
        let options = RunOptions {
            strict: fields.flag("strict_resume")? && matches!(start, Start::Command(_)),
            start,
            context,
            recursion_limit: number("recursion_limit")?,
            max_concurrency: number("max_concurrency")?,
            tags: config.texts("tags")?.unwrap_or_default(),
            configurable,
            metadata,
            interrupt_before: points("interrupt_before")?,
            interrupt_after: points("interrupt_after")?,
            checkpoint_id,
            checkpoint_namespace,
            durability: durability(&fields)?.to_owned(),
            ..RunOptions::default()
        };
        let recording = Recording {
            modes: modes.iter().fold(Modes::NONE, |all, m| all.with(m.records())).bits(),
            subgraphs: subgraphs || follows_subgraphs,
            filter,
            ..Recording::default()
        };
        let delivery = Delivery {
            webhook: fields.text("webhook")?.map(str::to_owned),
            cancel_on_disconnect: fields.word("on_disconnect", &["cancel", "continue"])? == Some("cancel"),
            ..Delivery::default()
        };
        let spec = RunSpec { options, recording, delivery, notes };
        let multitask = fields.word("multitask_strategy", &["enqueue", "reject", "interrupt", "rollback"])?;
        let wait = fields.value("after_seconds").map(seconds).transpose()?.filter(|wait| !wait.is_zero());
        let request = RunRequest {
            thread_id: thread,
            thread_metadata: spec.options.metadata.clone(),
            create_thread: fields.word("if_not_exists", &["create", "reject"])? == Some("create"),
            target,
            spec,
            multitask: multitask.and_then(|m| m.parse().ok()).unwrap_or_default(),
            start_time: wait.map(|wait| SystemTime::now() + wait),
            ..RunRequest::default()
        };
        Ok(Self { request, modes, settings })
    }
}

fn seconds(value: &Value) -> Result<Duration, Fail> {
    // Ten years: what is longer is a mistake.
    let most = 315_360_000.0;
    match value.as_f64() {
        Some(s) if (0.0..=most).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err(Fail::invalid(format!("after_seconds: must be a number from 0 to {most}"))),
    }
}

fn durability(fields: &Fields<'_>) -> Result<&'static str, Fail> {
    if let Some(word) = fields.word("durability", &["sync", "async", "exit"])? {
        return Ok(word);
    }
    // Its name of old.
    Ok(match fields.value("checkpoint_during").map(Value::as_bool) {
        None => "",
        Some(Some(true)) => "async",
        Some(Some(false)) => "exit",
        Some(None) => return Err(Fail::invalid("checkpoint_during: must be true or false")),
    })
}

/// The checkpoint to start from and its namespace, in any of the places where clients name them.
fn checkpoint(
    fields: &Fields<'_>,
    configurable: &Object,
    start: &Start,
) -> Result<(Option<CheckpointId>, String), Fail> {
    let none = Object::default();
    let place = Fields::within(fields.object("checkpoint")?.unwrap_or(&none));
    let configured = Fields::within(configurable);
    let mut found = (None, String::new());
    for named in [&place, &configured] {
        let ns = named.text("checkpoint_ns")?.unwrap_or_default();
        let map = named.object("checkpoint_map")?.filter(|_| !ns.is_empty());
        let of_map = |ns: &str| map.and_then(|map| map.get_str(ns));
        // Only a run without input goes on within a subgraph; another one starts where the subgraph had been called.
        let (id, ns) = match (named.text("checkpoint_id")?.or_else(|| of_map(ns)), of_map("")) {
            (_, Some(root)) if *start != Start::Resume => (Some(root), ""),
            (id, _) => (id, ns),
        };
        if id.is_some() {
            found = (id, ns.to_owned());
            break;
        }
    }
    if let (None, Some(id)) = (found.0, fields.text("checkpoint_id")?) {
        found = (Some(id), String::new());
    }
    Ok((found.0.map(checkpoint_id).transpose()?, found.1))
}

/// Reads the id of a checkpoint.
pub(crate) fn checkpoint_id(text: &str) -> Result<CheckpointId, Fail> {
    text.parse().map_err(|_| Fail::invalid("Invalid checkpoint ID: must be a UUID"))
}

fn start(fields: &Fields<'_>) -> Result<Start, Fail> {
    if let Some(command) = fields.object("command")?.filter(|c| !c.is_empty()) {
        return Ok(Start::Command(self::command(&Fields::within(command))?));
    }
    Ok(match fields.value("input") {
        None => Start::Resume,
        Some(input) => Start::Input(input.clone()),
    })
}

fn command(fields: &Fields<'_>) -> Result<CommandSpec, Fail> {
    let mut command = CommandSpec::default();
    match fields.value("resume") {
        Some(Value::Object(answers)) if !answers.is_empty() && answers.keys().all(|key| is_question_id(key)) => {
            command.resume_by_id = answers.iter().map(|(id, answer)| (id.to_string(), answer.clone())).collect();
        }
        resume => command.resume = resume.cloned(),
    }
    match fields.value("update") {
        None => {}
        Some(Value::Object(update)) => command.update.push(update.clone()),
        Some(Value::List(pairs)) => {
            for pair in pairs.iter() {
                let parts = pair.as_list().filter(|p| p.len() == 2);
                let named = parts.and_then(|p| Some((p.get(0)?.as_str()?, p.get(1)?)));
                let Some((channel, value)) = named else {
                    return Err(Fail::invalid(
                        "command.update: must be an object, or a list of [channel, value] pairs",
                    ));
                };
                command.update.push([(channel, value.clone())].into_iter().collect());
            }
        }
        Some(other) => {
            let what = format!("command.update: must be an object, or a list of pairs, not {}", other.kind());
            return Err(Fail::invalid(what));
        }
    }
    match fields.value("goto") {
        None => {}
        Some(Value::List(all)) => command.goto = all.iter().map(goto).collect::<Result<_, _>>()?,
        Some(one) => command.goto = vec![goto(one)?],
    }
    Ok(command)
}

fn goto(value: &Value) -> Result<(String, Option<Value>), Fail> {
    match value {
        Value::String(node) => Ok((node.to_string(), None)),
        Value::Object(send) => match send.get_str("node") {
            Some(node) => Ok((node.to_owned(), Some(send.get("input").cloned().unwrap_or_default()))),
            None => Err(Fail::invalid("command.goto: a Send is {\"node\": …, \"input\": …}")),
        },
        other => Err(Fail::invalid(format!("command.goto: must be a node's name or a Send, not {}", other.kind()))),
    }
}
