//! Reads the stream of a run to its end, whatever the way it is shown.

use std::io;

use futures_util::StreamExt;
use runloom::{
    Client, RunStream,
    v1::{End, StreamRunResponse, stream_run_response::Payload},
};

use super::show::Show;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    screen::Screen,
    signals::Signals,
    style::DIM,
    wire::to_json,
};

/// How a run is shown.
pub enum View {
    /// To a person.
    People(Box<Show>),
    /// To a program: a part a line, as JSON.
    Lines(Screen),
}

impl View {
    /// Where it is shown.
    pub fn screen(&mut self) -> &mut Screen {
        match self {
            Self::People(show) => &mut show.screen,
            Self::Lines(screen) => screen,
        }
    }

    fn part(&mut self, part: &StreamRunResponse) -> io::Result<()> {
        match self {
            Self::People(show) => show.part(part),
            Self::Lines(screen) => screen.line(&to_json("StreamRunResponse", part).to_string()),
        }
    }
}

/// How a run ended.
pub struct Ended {
    /// The run.
    pub run_id: String,
    /// Its thread.
    pub thread_id: String,
    /// Its graph.
    pub graph: String,
    /// Its end.
    pub end: End,
    /// Whether Ctrl-C ended it.
    pub was_stopped: bool,
}

/// What Ctrl-C does while a run is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// Cancels the run, which then ends; a second one leaves at once.
    Cancel,
    /// Leaves; the run goes on.
    Leave,
}

/// Reads a run to its end.
pub async fn follow(
    client: &Client,
    mut stream: RunStream,
    view: &mut View,
    signals: &mut Signals,
    on_stop: OnStop,
) -> Result<Ended> {
    let (mut thread_id, mut graph, mut was_stopped) = (String::new(), String::new(), false);
    loop {
        let part = tokio::select! {
            part = stream.next() => part,
            _ = signals.next() => {
                let run_id = stream.run_id().unwrap_or_default().to_owned();
                if was_stopped || on_stop == OnStop::Leave || run_id.is_empty() {
                    return Err(left(&run_id, on_stop));
                }
                was_stopped = true;
                view.screen().note(&format!("{DIM}cancelling; Ctrl-C again leaves at once{DIM:#}"))?;
                client.cancel_run(run_id.as_str()).await?;
                continue;
            }
        };
        let Some(part) = part else {
            return Err(Failure::failed("the stream stopped before the end of the run"));
        };
        let part = part?;
        view.part(&part)?;
        match part.payload {
            Some(Payload::Metadata(metadata)) => {
                thread_id = metadata.thread_id;
                graph = metadata.graph_name;
            }
            Some(Payload::End(end)) => {
                view.screen().rest();
                return Ok(Ended { run_id: part.run_id, thread_id, graph, end, was_stopped });
            }
            _ => {}
        }
    }
}

fn left(run_id: &str, on_stop: OnStop) -> Failure {
    let failure = Failure::new(Exit::Interrupted, "left");
    match (on_stop, run_id) {
        (_, "") => failure,
        (OnStop::Leave, run) => failure.hint(format!("the run goes on: runloom runs join {run}")),
        (OnStop::Cancel, run) => failure.hint(format!("whether the run was cancelled: runloom runs show {run}")),
    }
}
