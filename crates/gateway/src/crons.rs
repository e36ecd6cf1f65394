//! Crons: made, read, changed, found, counted, deleted.

use http::StatusCode;
use runloom_core::{
    CronPatch, CronRequest, CronRun, Reason, RunSpec,
    store::{AssistantId, Cron, CronFilter, CronId, CronSort, Direction, PageRequest},
};
use runloom_engine::{Object, ThreadId, Value};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, chosen, empty, json, paged, selected, uuid},
    langgraph::{read_iso, records},
    runs::{Asked, made},
};

/// What crons can be sorted by.
pub(crate) const SORTS: [&str; 7] =
    ["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"];

/// Those of a cron's fields that are its runs'.
const OF_RUNS: [&str; 12] = [
    "input",
    "config",
    "context",
    "webhook",
    "interrupt_before",
    "interrupt_after",
    "multitask_strategy",
    "stream_mode",
    "stream_subgraphs",
    "durability",
    "checkpoint_during",
    "event_filter",
];

fn id(call: &Call) -> Result<CronId, Fail> {
    uuid(call.param("cron_id"), "cron ID").map(CronId)
}

fn end_time(fields: &Fields<'_>) -> Result<Option<std::time::SystemTime>, Fail> {
    let Some(text) = fields.text("end_time")? else { return Ok(None) };
    let what = "end_time: must be a time from 1970 on, such as `2026-11-21T06:07:58Z`";
    let time = read_iso(text).filter(|time| *time >= std::time::SystemTime::UNIX_EPOCH);
    time.map(Some).ok_or_else(|| Fail::invalid(what))
}

fn keeps(fields: &Fields<'_>) -> Result<Option<bool>, Fail> {
    Ok(fields.word("on_run_completed", &["delete", "keep"])?.map(|word| word == "keep"))
}

/// What is asked of the runs. The metadata is the cron's: its runs get it when they are made.
fn run_of(body: &Value, thread: Option<ThreadId>) -> Result<Asked, Fail> {
    let fields = Fields::of(body)?;
    let mut asked = Asked::read(body, thread)?;
    let configured = fields.object("config")?.and_then(|config| config.get("metadata")?.as_object());
    asked.request.spec.options.metadata = configured.cloned().unwrap_or_default();
    // What the server put there when it showed the cron.
    asked.request.spec.options.configurable.remove("cron_id");
    asked.settings.remove("cron_id");
    Ok(asked)
}

async fn make(api: Api, call: Call, thread: Option<ThreadId>) -> Reply {
    let fields = call.fields()?;
    let schedule = fields.text("schedule")?.ok_or_else(|| Fail::invalid("schedule: is required: a cron expression"))?;
    let cron = CronRequest {
        schedule: schedule.to_owned(),
        timezone: fields.text("timezone")?.map(str::to_owned),
        end_time: end_time(&fields)?,
        disabled: fields.maybe_flag("enabled")? == Some(false),
        keep: keeps(&fields)?.unwrap_or(false),
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
        ..CronRequest::default()
    };
    let mut asked = run_of(&call.body, thread)?;
    let core = &api.core;
    if let Err(error) = core.schemas(&asked.request.target).await {
        let is_unknown = error.reason == Reason::GraphUnknown;
        let fail = Fail::from(error);
        return Err(if is_unknown { fail.with_status(StatusCode::NOT_FOUND) } else { fail });
    }
    note(&mut asked.request.spec, call.body.as_object());
    let made = made(core, asked, |run| {
        let cron = CronRequest { run, ..cron.clone() };
        async move { core.create_cron(cron).await }
    });
    Ok(json(StatusCode::OK, records::cron(&made.await?)))
}

pub(crate) async fn create(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    make(api, call, Some(thread)).await
}

pub(crate) async fn create_stateless(api: Api, call: Call) -> Reply {
    make(api, call, None).await
}

pub(crate) async fn get(api: Api, call: Call) -> Reply {
    Ok(json(StatusCode::OK, records::cron(&api.core.get_cron(id(&call)?).await?)))
}

pub(crate) async fn delete(api: Api, call: Call) -> Reply {
    api.core.delete_cron(id(&call)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Changes what is named, and leaves what is not.
pub(crate) async fn update(api: Api, call: Call) -> Reply {
    let (id, fields) = (id(&call)?, call.fields()?);
    let patch = CronPatch {
        schedule: fields.text("schedule")?.map(str::to_owned),
        timezone: fields.text("timezone")?.map(|zone| Some(zone.to_owned())),
        // A null takes it away.
        end_time: if fields.has("end_time") { Some(end_time(&fields)?) } else { None },
        enabled: fields.maybe_flag("enabled")?,
        keep: keeps(&fields)?,
        metadata: fields.object("metadata")?.cloned(),
        ..CronPatch::default()
    };
    let is_of_runs = OF_RUNS.iter().any(|key| fields.value(key).is_some());
    let own = ["schedule", "timezone", "end_time", "enabled", "on_run_completed", "metadata"];
    if !is_of_runs && !own.iter().any(|key| fields.has(key)) {
        return Err(Fail::new(StatusCode::BAD_REQUEST, "No fields to update"));
    }
    let old = api.core.get_cron(id).await?;
    if !is_of_runs {
        let CronRun { mut spec, .. } = CronRun::of(&old);
        note(&mut spec, call.body.as_object());
        let run = Some(CronRun::new(spec, CronRun::of(&old).multitask()));
        let patch = CronPatch { run, ..patch };
        return Ok(json(StatusCode::OK, records::cron(&api.core.update_cron(id, patch).await?)));
    }
    let mut body = call.body.as_object().cloned().unwrap_or_default();
    body.insert("assistant_id", old.assistant.to_string());
    let asked = run_of(&Value::Object(body), old.thread)?;
    let multitask = CronRun::of(&old).multitask();
    let (core, names_multitask) = (&api.core, fields.value("multitask_strategy").is_some());
    let changed = made(core, asked, |new| {
        let multitask = if names_multitask { new.multitask } else { multitask };
        let mut spec = overlaid(&old, new.spec, &fields);
        note(&mut spec, call.body.as_object());
        let run = Some(CronRun::new(spec, multitask));
        let patch = CronPatch { run, ..patch.clone() };
        async move { core.update_cron(id, patch).await }
    });
    Ok(json(StatusCode::OK, records::cron(&changed.await?)))
}

/// Notes what was asked, over what was asked before: a cron is shown in those words.
fn note(spec: &mut RunSpec, asked: Option<&Object>) {
    let mut all = spec.notes.get(records::API, records::CRON).and_then(Value::as_object).cloned().unwrap_or_default();
    asked.into_iter().flat_map(Object::iter).for_each(|(key, value)| all.insert(key.clone(), value.clone()));
    spec.notes.set(records::API, records::CRON, all.into());
}

/// What a cron asks of its runs, with what a request names in place of what was there.
fn overlaid(old: &Cron, new: RunSpec, fields: &Fields<'_>) -> RunSpec {
    let mut spec = CronRun::of(old).spec;
    let names = |key: &str| fields.value(key).is_some();
    if names("config") {
        spec.options.recursion_limit = new.options.recursion_limit;
        spec.options.max_concurrency = new.options.max_concurrency;
        spec.options.tags = new.options.tags;
        spec.options.configurable = new.options.configurable;
        spec.options.metadata = new.options.metadata;
    }
    // Settings may stand for a context.
    if names("context") || (names("config") && !new.options.context.is_null()) {
        spec.options.context = new.options.context;
    }
    if names("input") {
        spec.options.start = new.options.start;
    }
    if names("webhook") {
        spec.delivery.webhook = new.delivery.webhook;
    }
    if names("interrupt_before") {
        spec.options.interrupt_before = new.options.interrupt_before;
    }
    if names("interrupt_after") {
        spec.options.interrupt_after = new.options.interrupt_after;
    }
    if names("stream_mode") {
        spec.recording.modes = new.recording.modes;
        // The modes by the names that the client gave them.
        let named = new.notes.of(records::API).into_iter().flat_map(Object::iter);
        named.for_each(|(key, value)| spec.notes.set(records::API, key, value.clone()));
    }
    if names("stream_subgraphs") {
        spec.recording.subgraphs = new.recording.subgraphs;
    }
    if names("durability") || names("checkpoint_during") {
        spec.options.durability = new.options.durability;
    }
    if names("event_filter") {
        spec.recording.filter = new.recording.filter;
    }
    spec
}

fn filter(fields: &Fields<'_>) -> Result<CronFilter, Fail> {
    Ok(CronFilter {
        assistant: fields.uuid("assistant_id", "assistant ID")?.map(AssistantId),
        thread: fields.uuid("thread_id", "thread ID")?.map(ThreadId),
        enabled: fields.maybe_flag("enabled")?,
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
    })
}

pub(crate) async fn search(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let (filter, (limit, offset)) = (filter(&fields)?, fields.page(10)?);
    let sort = match fields.word("sort_by", &SORTS)? {
        Some("cron_id") => CronSort::Id,
        Some("assistant_id") => CronSort::Assistant,
        Some("thread_id") => CronSort::Thread,
        Some("next_run_date") => CronSort::Next,
        Some("end_time") => CronSort::End,
        Some("updated_at") => CronSort::Updated,
        _ => CronSort::Created,
    };
    let direction = match fields.word("sort_order", &["asc", "desc"])? {
        Some("asc") => Direction::Ascending,
        _ => Direction::Descending,
    };
    let select = chosen(fields.texts("select")?.unwrap_or_default(), records::CRON_FIELDS)?;
    let total = api.core.count_crons(filter.clone()).await?;
    let page = PageRequest { size: limit, token: None, skip: offset };
    let found = api.core.list_crons(filter, (sort, direction), page).await?;
    let crons: Vec<Value> = found.items.iter().map(|cron| selected(records::cron(cron), &select)).collect();
    Ok(paged(crons, offset, total))
}

pub(crate) async fn count(api: Api, call: Call) -> Reply {
    let count = api.core.count_crons(filter(&call.fields()?)?).await?;
    Ok(json(StatusCode::OK, Value::from(count)))
}
