//! What a run is asked for with, checked and turned into what the core takes.

use std::time::{Duration, SystemTime};

use runloom::v1::{self, Durability, IfThreadNotExists, MultitaskStrategy, OnDisconnect, run_spec};
use runloom_core::{CommandSpec, Delivery, Notes, Recording, RunOptions, RunRequest, RunSpec, Start, Target};
use runloom_engine::{Object, Value, stream::Modes};
use runloom_store::{AssistantId, Multitask};

use crate::{
    check::{Check, under},
    filters::{MAX_PATTERN, filter, modes, texts},
};

/// The longest a request id may be, in characters.
const MAX_NAME: usize = 128;
/// A start this long ago is a mistake. Up to there it is a request that was long under way, or sent again.
const LATE: Duration = Duration::from_secs(24 * 60 * 60);

/// A run that is asked for. `path` is where the spec stands in the request.
pub(crate) fn run_request(check: &mut Check, path: &str, spec: Option<v1::RunSpec>) -> RunRequest {
    let Some(spec) = spec else {
        check.fail(path, "missing");
        return RunRequest::default();
    };
    let at = |field: &str| under(path, field);
    let thread_id = check.optional_id(&at("thread_id"), &spec.thread_id);
    let target = match spec.target {
        None => {
            check.fail(at("target"), "missing: an assistant_id or a graph_name");
            Target::default()
        }
        Some(run_spec::Target::AssistantId(id)) => Target::Assistant(check.id::<AssistantId>(&at("assistant_id"), &id)),
        Some(run_spec::Target::GraphName(name)) => Target::Graph(check.name(&at("graph_name"), name)),
    };
    let mut expected_checkpoint_id = None;
    let start = match spec.start {
        None => Start::Resume,
        Some(run_spec::Start::Input(json)) => Start::Input(check.json(at("input"), Some(json)).unwrap_or_default()),
        Some(run_spec::Start::Command(command)) => {
            let path = at("command.expected_checkpoint_id");
            expected_checkpoint_id = check.optional_id(&path, &command.expected_checkpoint_id);
            Start::Command(self::command(check, &at("command"), command))
        }
    };
    let config = spec.config.unwrap_or_default();
    let coalescing = spec.token_coalescing.map(|c| coalescing(check, &at("token_coalescing"), c)).unwrap_or_default();
    if let Some(webhook) = &spec.webhook {
        // Whether one can be delivered is for the core to say; that it is an address is known here.
        if !(webhook.url.starts_with("http://") || webhook.url.starts_with("https://")) {
            check.fail(at("webhook.url"), "it takes an address that begins with http:// or https://");
        }
    }
    let spec = RunRequest {
        thread_metadata: Object::default(),
        run_id: None,
        thread_id,
        create_thread: check.one_of::<IfThreadNotExists>(at("if_not_exists"), spec.if_not_exists)
            == IfThreadNotExists::Create,
        target,
        multitask: match check.one_of(at("multitask_strategy"), spec.multitask_strategy) {
            MultitaskStrategy::Unspecified | MultitaskStrategy::Enqueue => Multitask::Enqueue,
            MultitaskStrategy::Reject => Multitask::Reject,
            MultitaskStrategy::Interrupt => Multitask::Interrupt,
            MultitaskStrategy::Rollback => Multitask::Rollback,
        },
        start_time: start_time(check, &at("start_time"), spec.start_time),
        request_id: Some(check.text(&at("request_id"), spec.request_id, MAX_NAME)).filter(|id| !id.is_empty()),
        expected_checkpoint_id,
        trace: Object::default(),
        spec: RunSpec {
            options: RunOptions {
                start,
                context: context(check, &at("context"), spec.context),
                recursion_limit: config.recursion_limit,
                max_concurrency: config.max_concurrency,
                tags: texts(check, &at("config.tags"), config.tags, MAX_PATTERN),
                configurable: configurable(check, &at("config.configurable"), config.configurable).unwrap_or_default(),
                metadata: check.object(&at("metadata"), spec.metadata).unwrap_or_default(),
                interrupt_before: names(check, &at("interrupt_before"), spec.interrupt_before),
                interrupt_after: names(check, &at("interrupt_after"), spec.interrupt_after),
                checkpoint_id: check.optional_id(&at("checkpoint_id"), &spec.checkpoint_id),
                checkpoint_namespace: check.namespace(&at("checkpoint_namespace"), &spec.checkpoint_namespace),
                durability: match check.one_of(at("durability"), spec.durability) {
                    Durability::Unspecified | Durability::Async => String::new(),
                    Durability::Sync => "sync".to_owned(),
                    Durability::Exit => "exit".to_owned(),
                },
                run_timeout_ms: run_timeout(check, &at("run_timeout"), spec.run_timeout),
                strict: true,
            },
            recording: Recording {
                modes: modes(check, &at("stream_modes"), &spec.stream_modes).map_or(0, Modes::bits),
                subgraphs: spec.stream_subgraphs,
                filter: filter(check, &at("event_filter"), spec.event_filter),
                coalesce_chunks: coalescing.0,
                coalesce_ms: coalescing.1,
            },
            delivery: Delivery {
                webhook: spec.webhook.map(|webhook| webhook.url),
                cancel_on_disconnect: check.one_of::<OnDisconnect>(at("on_disconnect"), spec.on_disconnect)
                    == OnDisconnect::Cancel,
                // 0 is the core's default: no grace at all is as good as a millisecond.
                disconnect_grace_ms: check
                    .millis(&at("disconnect_grace_duration"), spec.disconnect_grace_duration)
                    .map_or(0, |ms| ms.max(1)),
            },
            notes: Notes::default(),
        },
    };
    if let Err(error) = spec.spec.recording.filter.compile() {
        check.take(path, error);
    }
    spec
}

fn start_time(check: &mut Check, path: &str, time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    let time = check.time(path, time)?;
    if time.elapsed().is_ok_and(|ago| ago > LATE) {
        check.fail(path, "more than a day ago");
    }
    Some(time)
}

fn run_timeout(check: &mut Check, path: &str, timeout: Option<prost_types::Duration>) -> u64 {
    match check.millis(path, timeout) {
        Some(0) => {
            check.fail(path, "it must be more than nothing; leave it out for the server's own limit");
            0
        }
        millis => millis.unwrap_or(0),
    }
}

/// What LangGraph's clients put beside a graph's own settings; here each of them has its field.
const RESERVED: [&str; 7] =
    ["thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "assistant_id", "graph_id"];

/// Settings for the graph's nodes.
pub(crate) fn configurable(check: &mut Check, path: &str, json: Option<v1::Json>) -> Option<Object> {
    let settings = check.object(path, json)?;
    for key in settings.keys().filter(|key| RESERVED.contains(&&***key) || key.starts_with("__")) {
        let field = match &**key {
            "thread_id" | "checkpoint_id" => "; it has a field of its own in the run",
            "assistant_id" | "graph_id" => "; a run names what it runs in `target`",
            _ => "",
        };
        check.fail(under(path, key), format!("`{key}` is a key of LangGraph's own{field}"));
    }
    Some(settings)
}

/// Null is no context.
fn context(check: &mut Check, path: &str, json: Option<v1::Json>) -> Value {
    check.object(path, json).map_or(Value::Null, Value::Object)
}

/// The bounds: how many chunks, and how many milliseconds. Both 0: each chunk on its own.
fn coalescing(check: &mut Check, path: &str, coalescing: v1::TokenCoalescing) -> (u32, u64) {
    match check.millis(&under(path, "max_delay_duration"), coalescing.max_delay_duration) {
        // Not to wait for more is not to put together.
        Some(0) => (0, 0),
        Some(millis) => (coalescing.max_chunks, millis),
        None => (coalescing.max_chunks, 50),
    }
}

fn command(check: &mut Check, path: &str, command: v1::Command) -> CommandSpec {
    let at = |field: &str| under(path, field);
    if command.resume.is_some() && !command.resume_by_id.is_empty() {
        check.fail(at("resume_by_id"), "at most one of resume and resume_by_id is set");
    }
    let mut answers: Vec<_> = command.resume_by_id.into_iter().collect();
    // A map has no order; the same request is to be the same each time.
    answers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let resume_by_id = answers
        .into_iter()
        .map(|(id, json)| {
            let value = check.json(at(&format!("resume_by_id[{id}]")), Some(json));
            (id, value.unwrap_or_default())
        })
        .collect();
    let mut goto = Vec::with_capacity(command.goto.len());
    for (i, to) in command.goto.into_iter().enumerate() {
        let node = check.name(&at(&format!("goto[{i}].node")), to.node);
        goto.push((node, check.json(at(&format!("goto[{i}].input")), to.input)));
    }
    CommandSpec {
        resume: check.json(at("resume"), command.resume),
        resume_by_id,
        update: update(check, &at("update"), command.update),
        goto,
    }
}

/// An object by channel, or a list of such objects.
fn update(check: &mut Check, path: &str, json: Option<v1::Json>) -> Vec<Object> {
    match check.json(path, json) {
        None => Vec::new(),
        Some(Value::Object(fields)) => vec![fields],
        Some(Value::List(items)) => {
            let mut updates = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                match item {
                    Value::Object(fields) => updates.push(fields.clone()),
                    other => check.fail(format!("{path}[{i}]"), format!("it takes an object, not {}", other.kind())),
                }
            }
            updates
        }
        Some(other) => {
            check.fail(path, format!("it takes an object or a list of objects, not {}", other.kind()));
            Vec::new()
        }
    }
}

fn names(check: &mut Check, path: &str, names: Vec<String>) -> Vec<String> {
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            check.fail(format!("{path}[{i}]"), "empty: it takes the name of a node, or `*`");
        }
    }
    texts(check, path, names, MAX_PATTERN)
}

#[cfg(test)]
mod tests {
    use runloom::v1::{Command, EventSelector, Goto, Json, StreamMode, TokenCoalescing, Webhook};
    use serde_json::json;
    use tonic_types::StatusExt;

    use super::*;

    fn read(spec: v1::RunSpec) -> Result<RunRequest, Vec<String>> {
        let mut check = Check::default();
        let request = run_request(&mut check, "run", Some(spec));
        match check.done() {
            Ok(()) => Ok(request),
            Err(status) => {
                let bad = status.get_details_bad_request().unwrap();
                Err(bad.field_violations.into_iter().map(|v| v.field).collect())
            }
        }
    }

    #[test]
    fn a_plain_run() {
        let spec = v1::RunSpec::graph("agent").with_input(json!({"n": 1})).with_modes([StreamMode::Messages]);
        let request = read(spec).unwrap();
        assert_eq!(request.target, Target::Graph("agent".to_owned()));
        assert_eq!(request.spec.recording.modes(), runloom_engine::stream::Mode::Messages.into());
        assert!(matches!(&request.spec.options.start, Start::Input(v) if v.get("n") == Some(&Value::Int(1))));
        assert!(request.thread_id.is_none() && request.request_id.is_none() && request.spec.options.strict);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let spec = v1::RunSpec {
            thread_id: "x".into(),
            target: Some(run_spec::Target::AssistantId("y".into())),
            start: Some(run_spec::Start::Command(Command {
                resume: Some(Json::text(&json!(1))),
                resume_by_id: [("q".to_owned(), Json::default())].into(),
                update: Some(Json::text(&json!([1, {}]))),
                goto: vec![Goto::default()],
                expected_checkpoint_id: "z".into(),
            })),
            context: Some(Json::text(&json!([]))),
            stream_modes: vec![0],
            event_filter: Some(v1::EventFilter {
                include: Some(EventSelector { kinds: vec![99], ..Default::default() }),
                ..Default::default()
            }),
            durability: 77,
            run_timeout: Some(prost_types::Duration::default()),
            start_time: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
            webhook: Some(Webhook { url: "ftp://x".into() }),
            request_id: "r".repeat(129),
            ..Default::default()
        };
        let mut wrong = read(spec).unwrap_err();
        wrong.sort();
        assert_eq!(
            wrong,
            [
                "run.assistant_id",
                "run.command.expected_checkpoint_id",
                "run.command.goto[0].node",
                "run.command.resume_by_id",
                "run.command.resume_by_id[q]",
                "run.command.update[0]",
                "run.context",
                "run.durability",
                "run.event_filter.include.kinds[0]",
                "run.request_id",
                "run.run_timeout",
                "run.start_time",
                "run.stream_modes[0]",
                "run.thread_id",
                "run.webhook.url",
            ]
        );
        assert_eq!(read(v1::RunSpec::default()).unwrap_err(), ["run.target"]);
        let mut check = Check::default();
        run_request(&mut check, "run", None);
        assert!(check.done().is_err());
    }

    #[test]
    fn the_same_request_is_the_same_each_time() {
        let spec = || {
            let answers = (0..20).map(|i| (format!("q{i}"), Json::text(&json!(i))));
            read(v1::RunSpec::graph("g").with_answers(answers)).unwrap()
        };
        let first = spec();
        assert!((0..20).all(|_| spec() == first));
    }

    #[test]
    fn coalescing_has_a_default_delay() {
        let of = |max_chunks, delay: Option<i32>| {
            let delay = delay.map(|ms| prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
            let mut spec = v1::RunSpec::graph("g");
            spec.token_coalescing = Some(TokenCoalescing { max_chunks, max_delay_duration: delay });
            let spec = read(spec).unwrap().spec;
            (spec.recording.coalesce_chunks, spec.recording.coalesce_ms)
        };
        assert_eq!(of(8, None), (8, 50));
        assert_eq!(of(0, Some(20)), (0, 20));
        assert_eq!(of(8, Some(0)), (0, 0));
    }
}
