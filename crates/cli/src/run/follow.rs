//! Reads the stream of a run to its end and shows its parts.

use std::io;

use futures_util::StreamExt;
use runloom::{
    Client, RunStream,
    v1::{End, StreamRunResponse, stream_run_response::Payload},
};

use super::human::HumanView;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    screen::Screen,
    signals::Signals,
    style::DIM,
    wire::to_json,
};

/// How the parts of a run are shown.
pub enum View {
    /// As text with status lines.
    Human(Box<HumanView>),
    /// One JSON object per line and part.
    Json(Screen),
}

impl View {
    /// The screen of the view.
    pub fn screen(&mut self) -> &mut Screen {
        match self {
            Self::Human(show) => &mut show.screen,
            Self::Json(screen) => screen,
        }
    }

    fn part(&mut self, part: &StreamRunResponse) -> io::Result<()> {
        match self {
            Self::Human(show) => show.part(part),
            Self::Json(screen) => screen.write_line(&to_json("StreamRunResponse", part).to_string()),
        }
    }
}

/// The end of a run.
pub struct Ended {
    /// The id of the run.
    pub run_id: String,
    /// The id of its thread.
    pub thread_id: String,
    /// The name of its graph.
    pub graph: String,
    /// The last part of its stream.
    pub end: End,
    /// Whether it was cancelled with Ctrl-C.
    pub was_stopped: bool,
}

/// What Ctrl-C does while a run is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// Cancels the run and waits for its end; a second Ctrl-C leaves immediately.
    Cancel,
    /// Leaves the stream; the run continues.
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
                view.screen().status(&format!("{DIM}cancelling; press Ctrl-C again to leave immediately{DIM:#}"))?;
                client.cancel_run(run_id.as_str()).await?;
                continue;
            }
        };
        let Some(part) = part else {
            return Err(Failure::failed("the stream ended before the run"));
        };
        let part = part?;
        view.part(&part)?;
        match part.payload {
            Some(Payload::Metadata(metadata)) => {
                thread_id = metadata.thread_id;
                graph = metadata.graph_name;
            }
            Some(Payload::End(end)) => {
                view.screen().stop_spinner();
                return Ok(Ended { run_id: part.run_id, thread_id, graph, end, was_stopped });
            }
            _ => {}
        }
    }
}

fn left(run_id: &str, on_stop: OnStop) -> Failure {
    let failure = Failure::new(Exit::Interrupted, "stopped watching the run");
    match (on_stop, run_id) {
        (_, "") => failure,
        (OnStop::Leave, run) => failure.hint(format!("the run continues; watch it with: runloom runs join {run}")),
        (OnStop::Cancel, run) => failure.hint(format!("check whether it was cancelled with: runloom runs show {run}")),
    }
}
