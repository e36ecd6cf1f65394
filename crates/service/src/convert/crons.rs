//! Crons, as they are kept and as they are answered, with the run that each makes as it was asked for.

use std::time::Duration;

use runloom::{
    json::NotExact,
    v1::{self, JsonEncoding, OnRunCompleted, run_spec},
};
use runloom_core::{CommandSpec, CronRun, FilterSpec, RunSpec, Selector, Start};
use runloom_engine::{Value, stream::EventKind};
use runloom_store::{Cron, Multitask};

use super::{event, stream_modes, timestamp};
use crate::json::{encode, encode_object};

/// A cron.
pub(crate) fn cron(cron: &Cron, encoding: JsonEncoding) -> Result<v1::Cron, NotExact> {
    let on_run_completed = match (cron.thread, cron.keep) {
        (Some(_), _) => OnRunCompleted::Unspecified,
        (None, true) => OnRunCompleted::Keep,
        (None, false) => OnRunCompleted::Delete,
    };
    Ok(v1::Cron {
        cron_id: cron.id.to_string(),
        schedule: cron.schedule.clone(),
        time_zone: cron.timezone.clone().unwrap_or_default(),
        end_time: cron.end_at.map(timestamp),
        disabled: !cron.enabled,
        on_run_completed: on_run_completed.into(),
        metadata: Some(encode_object(&cron.metadata, encoding)?),
        run: Some(run(cron, encoding)?),
        owner: super::resources::owner(&cron.tenant),
        next_run_time: cron.next_at.map(timestamp),
        last_run_time: cron.fired_at.map(timestamp),
        last_run_id: cron.last_run.map(|id| id.to_string()).unwrap_or_default(),
        last_error: cron.error.clone().unwrap_or_default(),
        create_time: Some(timestamp(cron.created_at)),
        update_time: Some(timestamp(cron.updated_at)),
        omitted: None,
    })
}

fn run(cron: &Cron, encoding: JsonEncoding) -> Result<v1::RunSpec, NotExact> {
    let asked = CronRun::of(cron);
    let spec = &asked.spec;
    let start = match &spec.options.start {
        Start::Resume => None,
        Start::Input(input) => Some(run_spec::Start::Input(encode(input, encoding)?)),
        Start::Command(of) => Some(run_spec::Start::Command(command(of, encoding)?)),
    };
    let durability = match &*spec.options.durability {
        "sync" => v1::Durability::Sync,
        "exit" => v1::Durability::Exit,
        _ => v1::Durability::Async,
    };
    let multitask = match asked.multitask() {
        Multitask::Enqueue => v1::MultitaskStrategy::Enqueue,
        Multitask::Reject => v1::MultitaskStrategy::Reject,
        Multitask::Interrupt => v1::MultitaskStrategy::Interrupt,
        Multitask::Rollback => v1::MultitaskStrategy::Rollback,
    };
    let millis = |ms: u64| (ms > 0).then(|| duration(Duration::from_millis(ms)));
    // What faces keep for themselves is not shown.
    let settings = spec.options.configurable.iter().filter(|(key, _)| !key.starts_with("__"));
    let settings = settings.map(|(key, value)| (key.clone(), value.clone())).collect();
    let coalesces = spec.recording.coalesce_chunks > 0 || spec.recording.coalesce_ms > 0;
    Ok(v1::RunSpec {
        thread_id: cron.thread.map(|id| id.to_string()).unwrap_or_default(),
        target: Some(run_spec::Target::AssistantId(cron.assistant.to_string())),
        start,
        context: Some(&spec.options.context).filter(|c| !c.is_null()).map(|c| encode(c, encoding)).transpose()?,
        config: Some(v1::RunConfig {
            recursion_limit: spec.options.recursion_limit,
            tags: spec.options.tags.clone(),
            configurable: Some(encode_object(&settings, encoding)?),
            max_concurrency: spec.options.max_concurrency,
        }),
        metadata: Some(encode_object(&spec.options.metadata, encoding)?),
        stream_modes: stream_modes(spec.recording.modes()),
        stream_subgraphs: spec.recording.subgraphs,
        event_filter: (spec.recording.filter != FilterSpec::default()).then(|| filter(spec)),
        interrupt_before: spec.options.interrupt_before.clone(),
        interrupt_after: spec.options.interrupt_after.clone(),
        durability: durability.into(),
        multitask_strategy: multitask.into(),
        on_disconnect: if spec.delivery.cancel_on_disconnect {
            v1::OnDisconnect::Cancel
        } else {
            v1::OnDisconnect::Continue
        }
        .into(),
        disconnect_grace_duration: millis(spec.delivery.disconnect_grace_ms),
        run_timeout: millis(spec.options.run_timeout_ms),
        webhook: spec.delivery.webhook.clone().map(|url| v1::Webhook { url }),
        token_coalescing: coalesces.then(|| v1::TokenCoalescing {
            max_chunks: spec.recording.coalesce_chunks,
            max_delay_duration: millis(spec.recording.coalesce_ms),
        }),
        ..v1::RunSpec::default()
    })
}

fn duration(duration: Duration) -> prost_types::Duration {
    // Below 10^9, by `Duration`'s own promise.
    let nanos = duration.subsec_nanos() as i32;
    prost_types::Duration { seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), nanos }
}

fn command(command: &CommandSpec, encoding: JsonEncoding) -> Result<v1::Command, NotExact> {
    let by_id = command.resume_by_id.iter().map(|(id, answer)| Ok((id.clone(), encode(answer, encoding)?)));
    let goto = command.goto.iter().map(|(node, input)| {
        let input = input.as_ref().map(|input| encode(input, encoding)).transpose()?;
        Ok(v1::Goto { node: node.clone(), input })
    });
    let update: Vec<Value> = command.update.iter().cloned().map(Value::Object).collect();
    Ok(v1::Command {
        resume: command.resume.as_ref().map(|answer| encode(answer, encoding)).transpose()?,
        resume_by_id: by_id.collect::<Result<_, _>>()?,
        update: if update.is_empty() { None } else { Some(encode(&Value::from(update), encoding)?) },
        goto: goto.collect::<Result<_, _>>()?,
        expected_checkpoint_id: String::new(),
    })
}

fn filter(spec: &RunSpec) -> v1::EventFilter {
    let selector = |of: &Selector| v1::EventSelector {
        kinds: of.kinds.iter().filter_map(|k| k.parse::<EventKind>().ok()).map(|k| event::kind(k).into()).collect(),
        names: of.names.clone(),
        nodes: of.nodes.clone(),
        tags: of.tags.clone(),
        namespaces: of.namespaces.clone(),
    };
    v1::EventFilter {
        include: Some(selector(&spec.recording.filter.include)),
        exclude: Some(selector(&spec.recording.filter.exclude)),
        skip_empty_chunks: spec.recording.filter.skip_empty_chunks,
    }
}
