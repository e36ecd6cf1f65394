//! `runloom threads`: lists and shows threads and their checkpoints.

use clap::{Args, Subcommand, ValueEnum};
use runloom::{
    Client,
    v1::{Checkpoint, CheckpointSource, Interrupt, ListCheckpointsRequest, ListThreadsRequest, Thread, ThreadStatus},
};
use serde_json::Value;

use crate::{
    backend::ServerArgs,
    exit::{self, Exit},
    failure::Result,
    runs::time,
    screen::Screen,
    style::brief,
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  runloom threads list                          the newest threads
  runloom threads list --status interrupted     threads with an open question
  runloom threads show ID                       state, next nodes and questions of a thread
  runloom threads history ID                    checkpoints of a thread, newest first
  runloom threads history ID --json | jq .values
  runloom threads list --addr 10.0.0.7:50051    on another server

In a pipe, a list has tabs between its columns and no heading.";

/// List threads of a server, and show their state and history
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Threads {
    #[command(subcommand)]
    action: ThreadsAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Debug)]
enum ThreadsAction {
    /// List threads, newest first
    #[command(after_help = "Example: runloom threads list --status interrupted")]
    List {
        /// Only threads with this status
        #[arg(long, value_enum, value_name = "STATUS")]
        status: Option<Status>,
        /// Maximum number of entries
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print each thread as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Show one thread and its state
    #[command(after_help = "Example: runloom threads show 0198f3a0-5c1e-7d40-9b51-3f6c0a7e2d11")]
    Show {
        /// Id of the thread
        #[arg(value_name = "THREAD")]
        id: String,
        /// Print its latest checkpoint as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// List the checkpoints of a thread, newest first
    #[command(after_help = "Example: runloom threads history 0198f3a0-5c1e-7d40-9b51-3f6c0a7e2d11 --limit 5")]
    History {
        /// Id of the thread
        #[arg(value_name = "THREAD")]
        id: String,
        /// Maximum number of entries
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print each checkpoint with its state as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
}

/// The status of a thread.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Status {
    Idle,
    Busy,
    Interrupted,
    Error,
}

impl From<Status> for ThreadStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Idle => Self::Idle,
            Status::Busy => Self::Busy,
            Status::Interrupted => Self::Interrupted,
            Status::Error => Self::Error,
        }
    }
}

impl Threads {
    /// Runs the command.
    pub async fn run(self) -> Result {
        self.action.execute(&self.server.connect().await?).await
    }
}

impl ThreadsAction {
    async fn execute(self, client: &Client) -> Result {
        match self {
            Self::List { status, limit, json } => {
                let status = status.map_or(ThreadStatus::Unspecified, Into::into).into();
                let request = ListThreadsRequest { status, page_size: limit, ..Default::default() };
                list(&client.list_threads(request).await?.threads, json)?;
            }
            Self::Show { id, json } => {
                let checkpoint = client.get_state(id.as_str()).await?.checkpoint;
                if json {
                    table::json(&checkpoint.as_ref().map_or(Value::Null, |c| to_json("Checkpoint", c)))?;
                } else {
                    show(&client.get_thread(id.as_str()).await?, &checkpoint.unwrap_or_default())?;
                }
            }
            Self::History { id, limit, json } => {
                let request = ListCheckpointsRequest {
                    thread_id: id,
                    include_values: json,
                    page_size: limit,
                    ..Default::default()
                };
                history(&client.list_checkpoints(request).await?.checkpoints, json)?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn status(thread: &Thread) -> String {
    thread.status().as_str_name().trim_start_matches("THREAD_STATUS_").to_owned()
}

fn list(threads: &[Thread], json: bool) -> Result<()> {
    let mut table = Table::new(["THREAD", "GRAPH", "STATUS", "CHANGED", "ASKS"]);
    for thread in threads {
        if json {
            table::json(&to_json("Thread", thread))?;
        } else {
            let changed = time(thread.state_update_time.or(thread.update_time));
            let asks = asks(&thread.interrupts);
            table.row([thread.thread_id.clone(), thread.graph_name.clone(), status(thread), changed, asks]);
        }
    }
    if !json {
        table.print("no threads")?;
    }
    Ok(())
}

fn show(thread: &Thread, checkpoint: &Checkpoint) -> Result<()> {
    let decoded = |json: &Option<runloom::v1::Json>| json.as_ref().and_then(|j| j.decode().ok());
    let error = thread.error.clone().map(|status| runloom::Error::from(status).to_string()).unwrap_or_default();
    let metadata = decoded(&thread.metadata).map(|m| m.to_string()).filter(|m| m != "{}").unwrap_or_default();
    let values = decoded(&checkpoint.values);
    let values = values.map(|v| serde_json::to_string_pretty(&v).unwrap_or_default()).unwrap_or_default();
    table::facts([
        ("thread", thread.thread_id.clone()),
        ("graph", thread.graph_name.clone()),
        ("status", status(thread)),
        ("error", error),
        ("created", time(thread.create_time)),
        ("checkpoint", checkpoint.checkpoint_id.clone()),
        ("next", checkpoint.next.join(", ")),
        ("asks", asks(&checkpoint.interrupts)),
        ("metadata", metadata),
        ("state", values),
    ])?;
    Ok(())
}

fn history(checkpoints: &[Checkpoint], json: bool) -> Result<()> {
    let mut table = Table::new(["CHECKPOINT", "STEP", "SOURCE", "CREATED", "NEXT", "ASKS"]);
    for checkpoint in checkpoints {
        if json {
            table::json(&to_json("Checkpoint", checkpoint))?;
            continue;
        }
        table.row([
            checkpoint.checkpoint_id.clone(),
            checkpoint.step.to_string(),
            source(checkpoint.source()),
            time(checkpoint.create_time),
            checkpoint.next.join(", "),
            asks(&checkpoint.interrupts),
        ]);
    }
    if !json {
        table.print("no checkpoints")?;
    }
    Ok(())
}

fn source(source: CheckpointSource) -> String {
    source.as_str_name().trim_start_matches("CHECKPOINT_SOURCE_").to_lowercase()
}

/// The open questions, shortened on a terminal.
fn asks(questions: &[Interrupt]) -> String {
    let words = questions.iter().map(|question| {
        let value = question.value.as_ref().and_then(|v| v.decode().ok()).unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    });
    let all = words.collect::<Vec<_>>().join("; ");
    if Screen::is_terminal() { brief(&all, 60) } else { all }
}
