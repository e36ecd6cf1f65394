//! `runloom run`: runs a graph and shows its stream.

mod answers;
mod follow;
mod human;
mod input;
mod messages;
mod modes;

use std::time::{Duration, Instant};

use clap::Args;
use runloom::{
    Client,
    v1::{Command, GetStateResponse, RunSpec, RunState, StreamMode},
};
use serde_json::Value;
use uuid::Uuid;

use self::answers::Answers;
pub use self::{
    answers::{breakpoint_text, print_question},
    follow::{Ended, OnStop, View, follow},
    human::HumanView,
    modes::{DEFAULT_MODES, JSON_MODES, Mode, default_events},
};
use crate::{
    backend::{Backend, Connection, quoted},
    exit::{self, Exit},
    failure::{Failure, Result},
    options,
    screen::Screen,
    signals::Signals,
    style::DIM,
};

const EXAMPLES: &str = "\
Examples:
  runloom run agent 'What is the weather?'          text: a user message, or the graph's only field
  runloom run joke '{\"topic\": \"cats\"}'              a JSON object, for any graph
  echo cats | runloom run joke -                    input from a pipe
  runloom run joke cats --mode updates,values       choose the stream modes
  runloom run joke cats --json | jq .message_chunk  each part as a JSON object
  runloom run joke cats --addr 127.0.0.1:50051      on a server
  runloom run approval tea --data ./data            store the thread, to continue it later:
  runloom run approval --thread ID --data ./data --answer '{\"approved\": true}'

Output of the run goes to standard output, status lines about it go to standard error.";

/// Run a graph and show its stream
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Run {
    /// Name of the graph; `runloom graph list` lists them
    graph: String,
    /// Text or a JSON object; `-` reads it from standard input. Without INPUT, --thread continues where it stopped
    input: Option<String>,
    /// Thread to run on: a UUID; created if it does not exist. Default: a new thread
    #[arg(long, value_name = "ID")]
    thread: Option<Uuid>,
    /// Answer an interrupt, instead of at the prompt: JSON, or text. Can be repeated; the answers are used in order
    #[arg(long, value_name = "ANSWER")]
    answer: Vec<String>,
    /// Stream modes, separated by commas. Default: tokens, custom data, nodes and tool calls
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MODE")]
    mode: Vec<Mode>,
    /// Include the parts of subgraphs
    #[arg(long)]
    subgraphs: bool,
    /// Context of the run: a JSON object that nodes can read
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Maximum duration of the run: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    timeout: Option<Duration>,
    /// Print each part as a JSON object on one line, with the field names of the API; never prompts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backend: Backend,
}

impl Run {
    /// Runs the command.
    pub async fn run(self) -> Result {
        if self.input.is_none() && self.thread.is_none() {
            let failure = Failure::usage("INPUT is missing: text, or a JSON object");
            return Err(
                failure.hint(format!("runloom run {} 'Hello'; only --thread ID works without INPUT", self.graph))
            );
        }
        let text = self.input.as_deref().map(input::read).transpose()?;
        let context = self.context.as_deref().map(|c| input::object("--context", c)).transpose()?;
        let mut signals = Signals::new()?;
        let connection = self.backend.open().await?;
        let result = self.execute(&connection, text, context, &mut signals).await;
        connection.close().await;
        result
    }

    async fn execute(
        &self,
        connection: &Connection,
        text: Option<String>,
        context: Option<Value>,
        signals: &mut Signals,
    ) -> Result {
        let client = &connection.client;
        let thread = self.thread.unwrap_or_else(Uuid::now_v7).to_string();
        let mut view = if self.json {
            View::Json(Screen::new())
        } else {
            View::Human(Box::new(HumanView::new(Screen::new(), !self.mode.is_empty())))
        };
        let mut answers = Answers {
            given: self.answer.iter().map(|a| input::answer(a)).collect(),
            is_interactive: !self.json && self.input.as_deref() != Some("-") && Screen::is_interactive(),
        };
        let mut spec = self.spec(&thread, context);
        match text {
            Some(text) => spec = spec.with_input(input::for_graph(client, &self.graph, &text).await?),
            None => match self.continue_thread(client, &thread, &mut answers, view.screen(), signals).await? {
                Some(command) => spec.start = command,
                None => return Ok(Exit::AwaitsInput),
            },
        }
        loop {
            let began = Instant::now();
            let stream = client.stream_run(spec.clone());
            let ended = follow(client, stream, &mut view, signals, OnStop::Cancel).await?;
            if ended.end.state() != RunState::AwaitingInput {
                return finish(client, ended, &mut view, began.elapsed(), self.backend.is_persistent()).await;
            }
            let state = client.get_state(thread.as_str()).await?;
            match self.resume(&state, &mut answers, view.screen(), signals).await? {
                Some(start) => spec = RunSpec { start, request_id: String::new(), ..spec },
                None => return Ok(Exit::AwaitsInput),
            }
        }
    }

    /// The spec of the run, without its input or command.
    fn spec(&self, thread: &str, context: Option<Value>) -> RunSpec {
        let modes: Vec<StreamMode> = match (self.mode.is_empty(), self.json) {
            (false, _) => self.mode.iter().map(|mode| (*mode).into()).collect(),
            (true, true) => JSON_MODES.to_vec(),
            (true, false) => DEFAULT_MODES.to_vec(),
        };
        let mut spec = RunSpec::graph(&self.graph).with_new_thread(thread).with_modes(modes);
        spec.stream_subgraphs = self.subgraphs;
        if self.mode.is_empty() && !self.json {
            spec.event_filter = Some(default_events());
        }
        spec.context = context.map(Into::into);
        match self.timeout {
            Some(timeout) => spec.with_run_timeout(timeout),
            None => spec,
        }
    }

    /// How to start a run that continues the thread. `None`: it waits for an answer, and there is none.
    async fn continue_thread(
        &self,
        client: &Client,
        thread: &str,
        answers: &mut Answers,
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> Result<Option<Start>> {
        let state = client.get_state(thread).await?;
        let next = state.checkpoint.as_ref().map_or(&[][..], |c| &c.next);
        if next.is_empty() {
            let failure = Failure::failed(format!("thread {thread} has nothing to continue: its last run is complete"));
            return Err(failure.hint(format!("give it new input: runloom run {} INPUT --thread {thread}", self.graph)));
        }
        if state.checkpoint.as_ref().is_some_and(|c| c.interrupts.is_empty()) {
            // The thread is at a breakpoint, or its last run failed or was cancelled: the command continues it.
            return Ok(Some(None));
        }
        self.resume(&state, answers, screen, signals).await
    }

    /// A start that answers the open questions of a thread. Without answers: prints the questions and how to answer them.
    async fn resume(
        &self,
        state: &GetStateResponse,
        answers: &mut Answers,
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> Result<Option<Start>> {
        let checkpoint = state.checkpoint.clone().unwrap_or_default();
        let is_question = !checkpoint.interrupts.is_empty();
        let left = |failure: Failure| failure.or_hint(self.how_to_resume(&checkpoint.thread_id, is_question));
        if checkpoint.interrupts.is_empty() {
            if answers.confirm_continue(&checkpoint.next, screen, signals).await.map_err(left)? {
                return Ok(Some(None));
            }
            screen.status(&breakpoint_text(&checkpoint.next))?;
        } else {
            let given = answers.to(&checkpoint.interrupts, screen, signals).await.map_err(left)?;
            if !given.is_empty() {
                let resume_by_id = given.into_iter().map(|(id, answer)| (id, answer.into())).collect();
                let command = Command {
                    resume_by_id,
                    expected_checkpoint_id: checkpoint.checkpoint_id.clone(),
                    ..Command::default()
                };
                return Ok(Some(Some(runloom::v1::run_spec::Start::Command(command))));
            }
            for question in &checkpoint.interrupts {
                answers::print_question(question, screen)?;
            }
        }
        screen.status(&self.how_to_resume(&checkpoint.thread_id, is_question))?;
        Ok(None)
    }

    fn how_to_resume(&self, thread: &str, is_question: bool) -> String {
        let graph = quoted(&self.graph);
        let (answer, flags) = (if is_question { " --answer ANSWER" } else { "" }, self.backend.flags());
        if self.backend.is_persistent() {
            return format!("to continue: runloom run {graph} --thread {thread}{answer}{flags}");
        }
        let beforehand = if is_question { "give --answer ANSWER, " } else { "" };
        format!(
            "the run was in memory and cannot be continued: {beforehand}store it with --data DIR, or use a server with --addr ADDR"
        )
    }
}

/// How a run starts. `None` continues from the thread's latest checkpoint.
type Start = Option<runloom::v1::run_spec::Start>;

/// Reports the end of a run that did not stop at an interrupt.
pub async fn finish(client: &Client, ended: Ended, view: &mut View, took: Duration, is_persistent: bool) -> Result {
    let Ended { run_id, thread_id, end, was_stopped, .. } = ended;
    let state = end.state();
    if was_stopped && state == RunState::Cancelled {
        view.screen().status(&format!("{DIM}cancelled{DIM:#}"))?;
        return Ok(Exit::Interrupted);
    }
    if let Some(error) = end.error.clone().filter(|_| state != RunState::Succeeded) {
        let failure = Failure::from(runloom::Error::from(error));
        return Err(if is_persistent { failure.or_hint(format!("runloom runs show {run_id}")) } else { failure });
    }
    if state != RunState::Succeeded {
        let message = format!("the run ended as {}", state.as_str_name().trim_start_matches("RUN_STATE_"));
        return Err(Failure::failed(message));
    }
    if let View::Human(human) = view {
        if !human.has_output() {
            // The run printed nothing: print its output.
            let waited = client.wait_run(run_id.as_str()).await?;
            if let Some(values) = waited.values.and_then(|v| v.decode().ok()) {
                let pretty = Screen::is_terminal().then(|| serde_json::to_string_pretty(&values).ok()).flatten();
                human.screen.write_line(&pretty.unwrap_or_else(|| values.to_string()))?;
            }
        }
        human.done(took, end.usage.as_ref(), Some(thread_id.as_str()).filter(|_| is_persistent))?;
    }
    Ok(Exit::Ok)
}
