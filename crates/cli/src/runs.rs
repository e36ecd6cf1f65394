//! `runloom runs`: lists, shows, joins and cancels runs.

use std::time::{Instant, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use runloom::{
    Client,
    v1::{CancelMode, CancelRunRequest, JoinRunRequest, ListRunsRequest, Run, RunState},
};

use crate::{
    backend::ServerArgs,
    exit::{self, Exit},
    failure::Result,
    run::{self, HumanView, Mode, OnStop, View, follow},
    screen::Screen,
    signals::Signals,
    style::{ago, count, duration},
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  runloom runs list --state running        active runs
  runloom runs list --thread ID --json     the runs of a thread, one JSON object per line
  runloom runs show ID                     one run, with its error
  runloom runs join ID                     the stream of a run; Ctrl-C leaves, the run continues
  runloom runs cancel ID --wait            cancel a run and wait for its end
  runloom runs list --addr 10.0.0.7:50051  on another server

In a pipe, a list has tabs between its columns and no heading.";

/// List, show, join and cancel runs of a server
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Runs {
    #[command(subcommand)]
    action: RunsAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Debug)]
enum RunsAction {
    /// List runs, newest first
    #[command(after_help = "Example: runloom runs list --state failed,timed-out --limit 5")]
    List {
        /// Only runs of this thread
        #[arg(long, value_name = "ID")]
        thread: Option<String>,
        /// Only runs in these states, separated by commas
        #[arg(long, value_enum, value_delimiter = ',', value_name = "STATE")]
        state: Vec<State>,
        /// Maximum number of runs
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print each run as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Show one run
    #[command(after_help = "Example: runloom runs show 0198f3a0-5c1e-7d40-9b51-3f6c0a7e2d11 --json")]
    Show {
        /// Id of the run
        #[arg(value_name = "RUN")]
        id: String,
        /// Print the run as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Cancel a run; does nothing if it has ended
    #[command(after_help = "Example: runloom runs cancel 0198f3a0-5c1e-7d40-9b51-3f6c0a7e2d11 --wait")]
    Cancel {
        /// Id of the run
        #[arg(value_name = "RUN")]
        id: String,
        /// Also delete the run and undo its changes to the thread
        #[arg(long)]
        rollback: bool,
        /// Wait until the run has ended
        #[arg(long)]
        wait: bool,
    },
    /// Show the stream of an active or ended run, from its start
    #[command(after_help = "Example: runloom runs join 0198f3a0-5c1e-7d40-9b51-3f6c0a7e2d11 --mode messages")]
    Join {
        /// Id of the run
        #[arg(value_name = "RUN")]
        id: String,
        /// Only these of the run's stream modes, separated by commas
        #[arg(long, value_enum, value_delimiter = ',', value_name = "MODE")]
        mode: Vec<Mode>,
        /// Print each part as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
}

/// The state of a run.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum State {
    Pending,
    Running,
    Succeeded,
    AwaitingInput,
    Failed,
    Cancelled,
    TimedOut,
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::AwaitingInput => Self::AwaitingInput,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::TimedOut => Self::TimedOut,
        }
    }
}

impl Runs {
    /// Runs the command.
    pub async fn run(self) -> Result {
        let client = self.server.connect().await?;
        self.action.execute(&client, &self.server.addr).await
    }
}

impl RunsAction {
    async fn execute(self, client: &Client, address: &str) -> Result {
        match self {
            Self::List { thread, state, limit, json } => {
                let request = ListRunsRequest {
                    thread_id: thread.unwrap_or_default(),
                    states: state.into_iter().map(|state| RunState::from(state).into()).collect(),
                    page_size: limit,
                    ..Default::default()
                };
                list(&client.list_runs(request).await?.runs, json)?;
            }
            Self::Show { id, json } => show(&client.get_run(id.as_str()).await?, json)?,
            Self::Cancel { id, rollback, wait } => {
                let mode = if rollback { CancelMode::Rollback } else { CancelMode::Interrupt };
                let request = CancelRunRequest { run_id: id, mode: mode.into(), wait, ..Default::default() };
                let run = client.cancel_run(request).await?;
                table::facts([("run", run.run_id.clone()), ("state", state(&run))])?;
            }
            Self::Join { id, mode, json } => return join(client, address, id, &mode, json).await,
        }
        Ok(Exit::Ok)
    }
}

async fn join(client: &Client, address: &str, id: String, modes: &[Mode], json: bool) -> Result {
    let mut view = if json {
        View::Json(Screen::new())
    } else {
        View::Human(Box::new(HumanView::new(Screen::new(), !modes.is_empty())))
    };
    let stream_modes = modes.iter().map(|mode| runloom::v1::StreamMode::from(*mode).into()).collect();
    let request = JoinRunRequest { run_id: id, stream_modes, ..Default::default() };
    let (mut signals, began) = (Signals::new()?, Instant::now());
    let stream = client.join_run(request);
    let ended = follow(client, stream, &mut view, &mut signals, OnStop::Leave).await?;
    if ended.end.state() != RunState::AwaitingInput {
        return run::finish(client, ended, &mut view, began.elapsed(), true).await;
    }
    let screen = view.screen();
    for question in &ended.end.interrupts {
        run::print_question(question, screen)?;
    }
    let answer = if ended.end.interrupts.is_empty() {
        screen.status(&run::breakpoint_text(&[]))?;
        ""
    } else {
        " --answer ANSWER"
    };
    screen.status(&format!(
        "to continue: runloom run {} --thread {}{answer} --addr {address}",
        ended.graph, ended.thread_id
    ))?;
    Ok(Exit::AwaitsInput)
}

/// The name of the state, without the prefix of the enum.
pub fn state(run: &Run) -> String {
    run.state().as_str_name().trim_start_matches("RUN_STATE_").to_owned()
}

fn list(runs: &[Run], json: bool) -> Result<()> {
    let mut table = Table::new(["RUN", "GRAPH", "STATE", "CREATED", "TOOK", "THREAD"]);
    for run in runs {
        if json {
            table::json(&to_json("Run", run))?;
        } else {
            let created = time(run.create_time);
            table.row([
                run.run_id.clone(),
                run.graph_name.clone(),
                state(run),
                created,
                took(run),
                run.thread_id.clone(),
            ]);
        }
    }
    if !json {
        table.print("no runs")?;
    }
    Ok(())
}

fn show(run: &Run, json: bool) -> Result<()> {
    if json {
        return Ok(table::json(&to_json("Run", run))?);
    }
    let error = run.error.clone().map(|status| runloom::Error::from(status).to_string()).unwrap_or_default();
    let attempt = if run.attempt > 1 { run.attempt.to_string() } else { String::new() };
    let metadata = run.metadata.as_ref().and_then(|m| m.decode().ok()).map(|m| m.to_string());
    let usage = run.usage.filter(|u| u.input_tokens + u.output_tokens > 0);
    let modes = run.stream_modes().map(|m| m.as_str_name().trim_start_matches("STREAM_MODE_").to_lowercase());
    table::facts([
        ("run", run.run_id.clone()),
        ("thread", run.thread_id.clone()),
        ("graph", format!("{} {}", run.graph_name, run.graph_revision).trim_end().to_owned()),
        ("state", state(run)),
        ("error", error),
        ("attempt", attempt),
        ("created", time(run.create_time)),
        ("took", took(run)),
        ("modes", modes.collect::<Vec<_>>().join(", ")),
        (
            "usage",
            usage
                .map(|u| format!("{} in, {} out", count(u.input_tokens, "token"), u.output_tokens))
                .unwrap_or_default(),
        ),
        ("metadata", metadata.filter(|m| m != "{}").unwrap_or_default()),
    ])?;
    Ok(())
}

/// The duration of a run, until now if it is active.
fn took(run: &Run) -> String {
    let begin = run.begin_time.and_then(|t| SystemTime::try_from(t).ok());
    let end = run.end_time.and_then(|t| SystemTime::try_from(t).ok()).unwrap_or_else(SystemTime::now);
    begin.and_then(|begin| end.duration_since(begin).ok()).map(duration).unwrap_or_default()
}

/// A time: relative on a terminal, exact in a pipe.
pub fn time(time: Option<prost_types::Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    match SystemTime::try_from(time) {
        Ok(at) if Screen::is_terminal() => ago(at, SystemTime::now()),
        _ => time.to_string(),
    }
}
