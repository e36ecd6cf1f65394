//! The stream of a thread: every run of it, live, one after the other.

use std::collections::VecDeque;

use axum::extract::State;
use futures_util::StreamExt;
use runloom_core::{
    Core, Error, ReadOptions, Record, RunSpec, ThreadReader,
    store::{Direction, PageRequest, RunFilter},
};
use runloom_engine::{Object, RunId, Value};

use crate::{
    face::{Api, Call, Fail, Reply, Told, sse},
    langgraph::{Dialect, records},
    runs::{Place, numbered},
    threads::find,
};

pub(crate) async fn stream(State(api): State<Api>, call: Call) -> Reply {
    let thread = find(&api, call.thread()?).await?.id;
    let mut wants = Wants::default();
    for mode in call.query_all(&["stream_mode", "stream_modes"]) {
        match mode.as_str() {
            "run_modes" => wants.parts = true,
            "lifecycle" => wants.lifecycle = true,
            // Known, and told by no run.
            "state_update" => wants.others = true,
            other => return Err(Fail::invalid(format!("Invalid stream mode: {other}"))),
        }
    }
    if wants == Wants::default() {
        wants.parts = true;
    }
    let (after, place) = match call.header("last-event-id").or(call.query("last_event_id")) {
        None => (None, None),
        Some("-1" | "0" | "0-0" | "-") => {
            // From the thread's first run on.
            let filter = RunFilter { thread: Some(thread), ..RunFilter::default() };
            let runs = api.core.store().list_runs(filter, Direction::Ascending, PageRequest::first(1)).await?;
            (runs.items.first().map(|run| format!("{}:0", run.id)), None)
        }
        Some(id) => {
            let wrong = || Fail::invalid("Invalid last-event-id: is not one that a stream of this thread gave");
            let (run, place) = id.split_once(':').ok_or_else(wrong)?;
            let run: RunId = run.parse().map_err(|_| wrong())?;
            (Some(format!("{run}:0")), Some((run, Place::read(Some(place))?)))
        }
    };
    let reader = api.core.read_thread(thread, after, ReadOptions::default()).await?;
    let follow = Follow { core: api.core.clone(), reader, wants, place, now: None, ready: VecDeque::new() };
    let events = futures_util::stream::unfold(follow, |mut follow| async move {
        let next = follow.next().await?;
        Some((next, follow))
    });
    Ok(sse(events.boxed(), api.options.heartbeat))
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Wants {
    /// What the runs tell.
    parts: bool,
    /// Their beginning and end only.
    lifecycle: bool,
    others: bool,
}

struct Follow {
    core: Core,
    reader: ThreadReader,
    wants: Wants,
    /// What was seen last.
    place: Option<(RunId, Place)>,
    now: Option<(RunId, Dialect)>,
    ready: VecDeque<Told>,
}

impl Follow {
    async fn next(&mut self) -> Option<Result<Told, Error>> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(Ok(told));
            }
            match self.reader.next().await? {
                Ok((record, _)) => self.tell(&record).await,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn tell(&mut self, record: &Record) {
        let run = record.run_id;
        if self.now.as_ref().is_none_or(|(known, _)| *known != run) {
            let dialect = match self.core.get_run(run).await {
                Ok(found) => {
                    let spec = RunSpec::of(&found);
                    Dialect::new(records::modes(&spec), records::configurable(&found, &spec))
                }
                Err(_) => Dialect::new(Vec::new(), Object::default()),
            };
            self.now = Some((run, dialect));
        }
        let Some((_, dialect)) = &mut self.now else { return };
        let place = self.place.filter(|(seen, _)| *seen == run).map(|(_, place)| place).unwrap_or_default();
        let mut told = VecDeque::new();
        numbered(dialect, record, place, &format!("{run}:"), &mut told);
        for mut event in told {
            let is_bound = match event.name.as_str() {
                "metadata" => true,
                "end" => {
                    event.name = "metadata".to_owned();
                    event.data = Value::Object(object! { "status" => "run_done", "run_id" => run.to_string() });
                    true
                }
                _ => false,
            };
            if self.wants.parts || self.wants.lifecycle && is_bound {
                self.ready.push_back(event);
            }
        }
    }
}
