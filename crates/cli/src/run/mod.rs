//! `runloom run`: runs a graph and shows it while it runs.

mod ask;
mod follow;
mod input;
mod modes;
mod show;
mod voices;

use std::time::{Duration, Instant};

use clap::Args;
use runloom::{
    Client,
    v1::{Command, GetStateResponse, RunSpec, RunState, StreamMode},
};
use serde_json::Value;
use uuid::Uuid;

use self::ask::Answers;
pub use self::{
    ask::{show as show_question, stopped},
    follow::{Ended, OnStop, View, follow},
    modes::{FOR_PEOPLE, FOR_PROGRAMS, Mode, events_for_people},
    show::Show,
};
use crate::{
    exit::{self, Exit},
    failure::{Failure, Result},
    options,
    place::{Place, Session, quoted},
    screen::Screen,
    signals::Signals,
    style::DIM,
};

const EXAMPLES: &str = "\
Examples:
  runloom run agent 'What is the weather?'          text: a message, or the one text it takes
  runloom run joke '{\"topic\": \"cats\"}'              JSON, for any other graph
  echo cats | runloom run joke -                    from a pipe
  runloom run joke cats --mode updates,values       other parts than tokens and progress
  runloom run joke cats --json | jq .message_chunk  every part as a line of JSON
  runloom run joke cats --addr 127.0.0.1:50051      at a server, instead of in this process
  runloom run approval tea --data ./data            keeps the thread, to go on with later:
  runloom run approval --thread ID --data ./data --answer '{\"approved\": true}'

What the run says goes to the standard output, what is told about it to the standard error.";

/// Run a graph, and watch it run
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Run {
    /// The graph's name; `runloom graph list` shows those that there are
    graph: String,
    /// Text for a graph with messages, else a JSON object; `-` reads it from the standard input. Without it the thread goes on
    input: Option<String>,
    /// The thread to run on, a UUID; made if it does not exist. Without it: a new one
    #[arg(long, value_name = "ID")]
    thread: Option<Uuid>,
    /// Answers a question of the run, instead of the prompt: JSON, or else text. Repeat it for more, in their order
    #[arg(long, value_name = "ANSWER")]
    answer: Vec<String>,
    /// What to stream, instead of tokens, progress, nodes and tools; several with commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MODE")]
    mode: Vec<Mode>,
    /// Streams the subgraphs' parts too
    #[arg(long)]
    subgraphs: bool,
    /// What the graph's nodes may read: a JSON object
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// The longest it may take: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    timeout: Option<Duration>,
    /// Each part as a line of JSON, with the names of the API; asks no questions
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Run {
    /// Runs it.
    pub async fn run(self) -> Result {
        if self.input.is_none() && self.thread.is_none() {
            let failure = Failure::usage("INPUT is missing: text for a chat, or a JSON object");
            return Err(
                failure.hint(format!("runloom run {} 'Hello'; with --thread ID a thread goes on without", self.graph))
            );
        }
        let text = self.input.as_deref().map(input::read).transpose()?;
        let context = self.context.as_deref().map(|c| input::object("--context", c)).transpose()?;
        let mut signals = Signals::new()?;
        let session = self.place.open().await?;
        let result = self.at(&session, text, context, &mut signals).await;
        session.close().await;
        result
    }

    async fn at(
        &self,
        session: &Session,
        text: Option<String>,
        context: Option<Value>,
        signals: &mut Signals,
    ) -> Result {
        let client = &session.client;
        let thread = self.thread.unwrap_or_else(Uuid::now_v7).to_string();
        let mut view = if self.json {
            View::Lines(Screen::new())
        } else {
            View::People(Box::new(Show::new(Screen::new(), !self.mode.is_empty())))
        };
        let mut answers = Answers {
            given: self.answer.iter().map(|a| input::answer(a)).collect(),
            is_interactive: !self.json && self.input.as_deref() != Some("-") && Screen::is_interactive(),
        };
        let mut spec = self.spec(&thread, context);
        match text {
            Some(text) => spec = spec.with_input(input::for_graph(client, &self.graph, &text).await?),
            None => match self.go_on(client, &thread, &mut answers, view.screen(), signals).await? {
                Some(command) => spec.start = command,
                None => return Ok(Exit::AwaitsInput),
            },
        }
        loop {
            let began = Instant::now();
            let stream = client.stream_run(spec.clone());
            let ended = follow(client, stream, &mut view, signals, OnStop::Cancel).await?;
            if ended.end.state() != RunState::AwaitingInput {
                return finish(client, ended, &mut view, began.elapsed(), self.place.is_kept()).await;
            }
            let state = client.get_state(thread.as_str()).await?;
            match self.resume(&state, &mut answers, view.screen(), signals).await? {
                Some(start) => spec = RunSpec { start, request_id: String::new(), ..spec },
                None => return Ok(Exit::AwaitsInput),
            }
        }
    }

    /// The run, without what it starts with.
    fn spec(&self, thread: &str, context: Option<Value>) -> RunSpec {
        let modes: Vec<StreamMode> = match (self.mode.is_empty(), self.json) {
            (false, _) => self.mode.iter().map(|mode| (*mode).into()).collect(),
            (true, true) => FOR_PROGRAMS.to_vec(),
            (true, false) => FOR_PEOPLE.to_vec(),
        };
        let mut spec = RunSpec::graph(&self.graph).with_new_thread(thread).with_modes(modes);
        spec.stream_subgraphs = self.subgraphs;
        if self.mode.is_empty() && !self.json {
            spec.event_filter = Some(events_for_people());
        }
        spec.context = context.map(Into::into);
        match self.timeout {
            Some(timeout) => spec.with_run_timeout(timeout),
            None => spec,
        }
    }

    /// How a thread goes on that stopped before this command: none where it waits for an answer that nobody gives.
    async fn go_on(
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
            let failure =
                Failure::failed(format!("thread {thread} has nothing to go on with: its last run came to its end"));
            return Err(
                failure.hint(format!("give it a new input: runloom run {} INPUT --thread {thread}", self.graph))
            );
        }
        if state.checkpoint.as_ref().is_some_and(|c| c.interrupts.is_empty()) {
            // It stands at a breakpoint, or its run failed or was cancelled: this command is the wish to go on.
            return Ok(Some(None));
        }
        self.resume(&state, answers, screen, signals).await
    }

    /// What answers the questions of a thread; or, where nobody does, says them and how to answer.
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
            if answers.go_on(&checkpoint.next, screen, signals).await.map_err(left)? {
                return Ok(Some(None));
            }
            screen.note(&stopped(&checkpoint.next))?;
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
                ask::show(question, screen)?;
            }
        }
        screen.note(&self.how_to_resume(&checkpoint.thread_id, is_question))?;
        Ok(None)
    }

    fn how_to_resume(&self, thread: &str, is_question: bool) -> String {
        let graph = quoted(&self.graph);
        let (answer, flags) = (if is_question { " --answer ANSWER" } else { "" }, self.place.flags());
        if self.place.is_kept() {
            return format!("to go on: runloom run {graph} --thread {thread}{answer}{flags}");
        }
        let beforehand = if is_question { "answer beforehand with --answer ANSWER, or " } else { "" };
        format!(
            "the run was in memory and is gone: {beforehand}keep it with --data DIR, or run it at a server with --addr"
        )
    }
}

/// How a run starts: none goes on from where its thread stands.
type Start = Option<runloom::v1::run_spec::Start>;

/// Says how a run ended that did not stop at a question.
pub async fn finish(client: &Client, ended: Ended, view: &mut View, took: Duration, is_kept: bool) -> Result {
    let Ended { run_id, thread_id, end, was_stopped, .. } = ended;
    let state = end.state();
    if was_stopped && state == RunState::Cancelled {
        view.screen().note(&format!("{DIM}cancelled{DIM:#}"))?;
        return Ok(Exit::Interrupted);
    }
    if let Some(error) = end.error.clone().filter(|_| state != RunState::Succeeded) {
        let failure = Failure::from(runloom::Error::from(error));
        return Err(if is_kept { failure.or_hint(format!("runloom runs show {run_id}")) } else { failure });
    }
    if state != RunState::Succeeded {
        let message = format!("the run ended as {}", state.as_str_name().trim_start_matches("RUN_STATE_"));
        return Err(Failure::failed(message));
    }
    if let View::People(show) = view {
        if !show.has_shown() {
            // A run that said nothing has left something.
            let left = client.wait_run(run_id.as_str()).await?;
            if let Some(values) = left.values.and_then(|v| v.decode().ok()) {
                let pretty = Screen::is_terminal().then(|| serde_json::to_string_pretty(&values).ok()).flatten();
                show.screen.line(&pretty.unwrap_or_else(|| values.to_string()))?;
            }
        }
        show.done(took, end.usage.as_ref(), Some(thread_id.as_str()).filter(|_| is_kept))?;
    }
    Ok(Exit::Ok)
}
