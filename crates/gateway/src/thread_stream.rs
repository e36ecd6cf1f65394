//! The stream of a thread: every run of it, live, one after the other, and what is written to its state by hand.

use std::collections::VecDeque;

use futures_util::StreamExt;
use runloom_core::{Error, ReadOptions, Record, RunSpec, Session, StateQuery, ThreadPart, ThreadReader};
use runloom_engine::{CheckpointId, Object, RunId, ThreadId, Value};

use crate::{
    face::{Api, Call, Fail, Reply, Told, sse},
    langgraph::{Dialect, records, state},
    runs::{Place, numbered},
    threads::find,
};

pub(crate) async fn stream(api: Api, call: Call) -> Reply {
    let thread = find(&api, call.thread()?).await?.id;
    let mut wants = Wants::default();
    for mode in call.query_all(&["stream_mode", "stream_modes"]) {
        match mode.as_str() {
            "run_modes" => wants.parts = true,
            "lifecycle" => wants.lifecycle = true,
            "state_update" => wants.states = true,
            other => return Err(Fail::invalid(format!("Invalid stream mode: {other}"))),
        }
    }
    if wants == Wants::default() {
        wants.parts = true;
    }
    let (after, place) = match call.header("last-event-id").or(call.query("last_event_id")) {
        None => (None, None),
        // From the thread's beginning on.
        Some("-1" | "0" | "0-0" | "-") => (Some(format!("{}:0~0", uuid::Uuid::nil())), None),
        Some(id) => {
            let wrong = || Fail::invalid("Invalid last-event-id: is not one that a stream of this thread gave");
            let (run, place) = id.split_once(':').ok_or_else(wrong)?;
            let run: RunId = run.parse().map_err(|_| wrong())?;
            let (place, written) = place.split_once('~').map_or((place, None), |(place, at)| (place, Some(at)));
            let written = written.map(|at| format!("~{at}")).unwrap_or_default();
            (Some(format!("{run}:0{written}")), Some((run, Place::read(Some(place))?)))
        }
    };
    let reader = api.core.read_thread(thread, after, ReadOptions::default(), wants.states).await?;
    let follow = Follow { core: api.core.clone(), thread, reader, wants, place, now: None, ready: VecDeque::new() };
    let events = futures_util::stream::unfold(follow, |mut follow| async move {
        let next = follow.next().await?;
        Some((next, follow))
    });
    Ok(sse(events.boxed(), &api))
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Wants {
    /// What the runs tell.
    parts: bool,
    /// Their beginning and end only.
    lifecycle: bool,
    /// What is written to the thread's state by hand.
    states: bool,
}

struct Follow {
    core: Session,
    thread: ThreadId,
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
                Ok((ThreadPart::Record(record), _)) => self.tell(&record).await,
                Ok((ThreadPart::Numbered(of), _)) => self.tell(&of.record).await,
                Ok((ThreadPart::Written(checkpoint), cursor)) => self.tell_state(checkpoint, cursor).await,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Tells the state as it was written. A checkpoint that has been pruned meanwhile is not told.
    async fn tell_state(&mut self, checkpoint: CheckpointId, cursor: String) {
        let query = StateQuery { checkpoint_id: Some(checkpoint), ..StateQuery::latest(self.thread) };
        let Ok(view) = self.core.get_state(query).await else { return };
        let data = object! { "state" => state(&view), "thread_id" => self.thread.to_string() };
        self.ready.push_back(Told { id: cursor, name: "state_update".to_owned(), data: data.into() });
    }

    async fn tell(&mut self, record: &Record) {
        let run = record.run_id;
        if self.now.as_ref().is_none_or(|(known, _)| *known != run) {
            let dialect = match self.core.get_run(run).await {
                Ok(found) => {
                    let spec = RunSpec::of(&found);
                    Dialect::new(records::modes(&spec), Vec::new(), records::configurable(&found, &spec))
                        .without_subgraphs(records::hides_subgraphs(&spec))
                }
                Err(_) => Dialect::new(Vec::new(), Vec::new(), Object::default()),
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
