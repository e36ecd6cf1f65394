//! `runloom workers`: lists attached workers, their queues and their tasks.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use runloom::{
    Client,
    v1::{ListWorkersRequest, Worker, WorkerQueue},
};

use crate::{
    backend::ServerArgs,
    exit::{self, Exit},
    failure::Result,
    runs::time,
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  runloom workers list                       attached workers, by queue
  runloom workers list --queue orders        only those of one queue
  runloom workers queues                     queue depth, oldest wait, missing handlers
  runloom workers show ID                    a worker and the tasks that it executes
  runloom workers queues --json | jq .waiting
  runloom workers list --addr 10.0.0.7:50051 on another server

In a pipe, a list has tabs between its columns and no heading.";

/// List attached workers, the depth of their queues, and their tasks
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Workers {
    #[command(subcommand)]
    action: WorkersAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Debug)]
enum WorkersAction {
    /// List attached workers, by queue
    #[command(after_help = "Example: runloom workers list --queue orders")]
    List {
        /// Only workers of this queue
        #[arg(long, value_name = "QUEUE", default_value = "")]
        queue: String,
        /// Print each worker as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// List queues: tasks that wait and run, and handlers that no worker has
    #[command(after_help = "Example: runloom workers queues")]
    Queues {
        /// Only this queue
        #[arg(long, value_name = "QUEUE", default_value = "")]
        queue: String,
        /// Print each queue as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Show a worker and its tasks
    #[command(after_help = "Example: runloom workers show 7d9c3c1e-53a1-4a47-9d8b-4a5e0d1f6b52")]
    Show {
        /// Id of the worker
        #[arg(value_name = "WORKER")]
        id: String,
        /// Print the worker as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
}

impl Workers {
    /// Runs the command.
    pub async fn run(self) -> Result {
        self.action.execute(&self.server.connect().await?).await
    }
}

impl WorkersAction {
    async fn execute(self, client: &Client) -> Result {
        match self {
            Self::List { queue, json } => {
                let mut request = ListWorkersRequest { queue, page_size: 1000, ..Default::default() };
                let mut workers = Vec::new();
                loop {
                    let page = client.list_workers(request.clone()).await?;
                    workers.extend(page.workers);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                list(&workers, json)?;
            }
            Self::Queues { queue, json } => {
                let request = ListWorkersRequest { queue, page_size: 1, ..Default::default() };
                queues(&client.list_workers(request).await?.queues, json)?;
            }
            Self::Show { id, json } => {
                let worker = client.get_worker(id).await?;
                if json {
                    table::json(&to_json("Worker", &worker))?;
                } else {
                    show(&worker)?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

fn sdk(worker: &Worker) -> String {
    format!("{} {}", worker.sdk, worker.sdk_version).trim().to_owned()
}

fn list(workers: &[Worker], json: bool) -> Result<()> {
    let mut table = Table::new(["WORKER", "QUEUE", "TASKS", "CREDIT", "SDK", "ATTACHED", "DESCRIPTION"]);
    for worker in workers {
        if json {
            table::json(&to_json("Worker", worker))?;
            continue;
        }
        let tasks = format!("{}/{}", worker.tasks.len(), worker.max_tasks);
        let credit = if worker.draining { "draining".to_owned() } else { worker.credit.to_string() };
        let (id, queue) = (worker.worker_id.clone(), worker.queue.clone());
        let description = worker.description.clone();
        table.row([id, queue, tasks, credit, sdk(worker), time(worker.attach_time), description]);
    }
    if !json {
        table.print("no workers are attached to this server")?;
    }
    Ok(())
}

fn queues(queues: &[WorkerQueue], json: bool) -> Result<()> {
    let mut table = Table::new(["QUEUE", "WORKERS", "WAITING", "RUNNING", "OLDEST WAIT", "MISSING HANDLERS"]);
    for queue in queues {
        if json {
            table::json(&to_json("WorkerQueue", queue))?;
            continue;
        }
        let wait = queue.oldest_wait.map(|wait| wait.to_string()).unwrap_or_default();
        let missing = queue.missing_handlers.join(", ");
        let [workers, waiting, running] =
            [u64::from(queue.workers), queue.waiting, queue.running].map(|count| count.to_string());
        table.row([queue.name.clone(), workers, waiting, running, wait, missing]);
    }
    if !json {
        table.print("no queues: no worker is attached and no task waits for one")?;
    }
    Ok(())
}

fn show(worker: &Worker) -> Result<()> {
    let handlers: BTreeSet<&str> = worker.handlers.iter().map(|handler| handler.name.as_str()).collect();
    let tasks = worker.tasks.iter().map(|task| {
        let (node, run) = (&task.node, &task.run_id);
        format!("{} of run {run}, node {node}, try {}, since {}", task.handler, task.r#try, time(task.start_time))
    });
    table::facts([
        ("worker", worker.worker_id.clone()),
        ("queue", worker.queue.clone()),
        ("description", worker.description.clone()),
        ("sdk", sdk(worker)),
        ("address", worker.peer.clone()),
        ("attached", time(worker.attach_time)),
        ("credit", worker.credit.to_string()),
        ("draining", worker.draining.to_string()),
        ("handlers", handlers.into_iter().collect::<Vec<_>>().join(", ")),
        ("tasks", tasks.collect::<Vec<_>>().join("\n")),
    ])?;
    Ok(())
}
