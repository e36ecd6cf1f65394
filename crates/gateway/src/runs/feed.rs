//! A run's records as LangGraph's events, each with an id from which a client goes on.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use runloom_core::{
    Error, FilterSpec, ReadOptions, Record, RunReader, RunSpec, Session,
    store::{CancelAction, Canceller, Run},
};
use runloom_engine::stream::{Mode, Modes};

use crate::{
    face::{Fail, Told},
    langgraph::{Dialect, StreamMode, records},
};

/// Where a reader stands: the record it saw last, and how many of its events. `u32::MAX` is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub seq: u64,
    pub event: u32,
}

impl Place {
    /// Reads an id as a client gives it back: `seq`, `seq.k`; `-1` and `0` are the beginning.
    pub fn read(id: Option<&str>) -> Result<Self, Fail> {
        let Some(id) = id else { return Ok(Self::default()) };
        if ["-1", "0", "0-0", "-"].contains(&id) {
            return Ok(Self::default());
        }
        let wrong =
            || Fail::invalid(format!("Invalid last-event-id: `{id}` is not an id that a stream of this run gave"));
        match id.split_once('.') {
            None => Ok(Self { seq: id.parse().map_err(|_| wrong())?, event: u32::MAX }),
            Some((seq, event)) => {
                Ok(Self { seq: seq.parse().map_err(|_| wrong())?, event: event.parse().map_err(|_| wrong())? })
            }
        }
    }
}

/// Numbers the events of one record, as every reader of the run does: a place in one stream is the same in another.
pub(crate) fn numbered(dialect: &mut Dialect, record: &Record, place: Place, prefix: &str, out: &mut VecDeque<Told>) {
    let events = dialect.events(record);
    let is_one = events.all == 1;
    for event in events.wanted {
        let k = event.number;
        let is_seen = record.seq < place.seq || record.seq == place.seq && k <= place.event;
        if is_seen {
            continue;
        }
        let id = if is_one { format!("{prefix}{}", record.seq) } else { format!("{prefix}{}.{k}", record.seq) };
        out.push_back(Told { id, name: event.name, data: event.data });
    }
}

/// The events of a run, from a place on.
pub(crate) struct Feed {
    reader: RunReader,
    dialect: Dialect,
    place: Place,
    ready: VecDeque<Told>,
    guard: Option<Leaving>,
}

impl Feed {
    /// Opens one. Modes that the run does not record tell nothing.
    pub async fn open(
        core: &Session,
        run: &Run,
        modes: Vec<StreamMode>,
        place: Place,
        filter: &FilterSpec,
    ) -> Result<Self, Fail> {
        let spec = RunSpec::of(run);
        let recorded = spec.recording.modes();
        let modes: Vec<StreamMode> = modes.into_iter().filter(|m| is_recorded(recorded, *m)).collect();
        // What is told of a message is the whole of it so far: that has to be read again to be gone on with. So have the
        // subgraphs that have begun.
        let after = match place.seq {
            _ if modes.contains(&StreamMode::Messages) || modes.contains(&StreamMode::Lifecycle) => 0,
            seq if place.event == u32::MAX => seq,
            seq => seq.saturating_sub(1),
        };
        let wanted = modes.iter().fold(Modes::NONE, |all, m| all.with(m.records()));
        let options = ReadOptions { after, modes: Some(wanted), filter: filter.compile()?, ..ReadOptions::default() };
        // A run that has just been made may be over by now: it is looked up like any other.
        let reader = core.read_run(run.id, options).await?;
        let mut dialect = Dialect::new(modes, records::modes(&spec), records::configurable(run, &spec))
            .without_subgraphs(records::hides_subgraphs(&spec));
        if run.stateless {
            dialect = dialect.without_checkpoints();
        }
        Ok(Self { reader, dialect, place, ready: VecDeque::new(), guard: None })
    }

    /// Leaves the openings of attempts out.
    pub fn without_openings(mut self) -> Self {
        self.dialect = self.dialect.without_openings();
        self
    }

    /// Cancels the run when this reader leaves before the run's end.
    pub fn cancelling(mut self, core: Session, run: &Run) -> Self {
        self.guard = Some(Leaving { core, run: run.id, is_over: false });
        self
    }
}

fn is_recorded(recorded: Modes, mode: StreamMode) -> bool {
    let has_both = recorded.has(Mode::Tasks) && recorded.has(Mode::Checkpoints);
    match mode {
        StreamMode::Tasks | StreamMode::Checkpoints if recorded.has(Mode::Debug) => true,
        StreamMode::Debug if has_both => true,
        mode => recorded.covers(mode.records()),
    }
}

impl Stream for Feed {
    type Item = Result<Told, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(told) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(told)));
            }
            let record: Arc<Record> = match ready!(Pin::new(&mut this.reader).poll_next(cx)) {
                None => {
                    if let Some(guard) = &mut this.guard {
                        guard.is_over = true;
                    }
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(record)) => record,
            };
            // An end is told to whoever asks, be it again.
            let place = match record.body {
                runloom_core::Body::End(_) => Place::default(),
                _ => this.place,
            };
            numbered(&mut this.dialect, &record, place, "", &mut this.ready);
        }
    }
}

/// A reader whose leaving ends the run.
struct Leaving {
    core: Session,
    run: runloom_engine::RunId,
    is_over: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (core, run) = (self.core.clone(), self.run);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = core.cancel_run(run, CancelAction::Interrupt, Canceller::Readers, false).await {
                tracing::debug!(%run, %error, "a run whose reader left is not cancelled");
            }
        });
    }
}
