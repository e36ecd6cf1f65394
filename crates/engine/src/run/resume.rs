//! What a run without new input needs: something to go on with, and open questions for the answers it brings.

use super::pending::is_command;
use crate::{
    Answer, Command, Error, Graph, Input, RunId,
    checkpoint::{Control, Saved, TaskRecord},
    stream::Interrupt,
};

impl Graph {
    /// Whether a run could go on at a checkpoint of the graph, or on a thread that has none; a strict run that cannot ends
    /// with the same error when it begins.
    pub fn check_resume(&self, saved: Option<&Saved>, input: &Input) -> Result<(), Error> {
        let stand = saved.map(|saved| Stand {
            is_pending: saved.checkpoint.control.is_pending(),
            records: &saved.tasks,
            run: None,
        });
        check(self.name(), stand, input, true)
    }
}

impl Control {
    /// Whether anything is to run next.
    pub fn is_pending(&self) -> bool {
        let Self { input, triggered, deferred, sends, joins: _, last: _, by_hand: _ } = self;
        input.is_some() || !triggered.is_empty() || !deferred.is_empty() || !sends.is_empty()
    }

    /// Forgets what is to run next of nodes that are not kept.
    pub(super) fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        self.triggered.retain(|node| keeps(node));
        self.deferred.retain(|node| keeps(node));
        self.sends.retain(|send| keeps(&send.node));
    }
}

/// Where a run begins.
pub(super) struct Stand<'a> {
    /// Whether anything is to run next.
    pub is_pending: bool,
    /// What the tasks of the stopped step did.
    pub records: &'a [TaskRecord],
    /// The run, where this is not its first attempt.
    pub run: Option<RunId>,
}

/// The questions that are open among what tasks did.
pub(super) fn open_questions(records: &[TaskRecord]) -> Vec<Interrupt> {
    records.iter().flat_map(|record| record.open().iter().cloned()).collect()
}

/// Whether a run can begin there. `strict` refuses what LangGraph passes over: a run with nothing to go on with, and answers
/// to questions that are not open.
pub(super) fn check(graph: &str, stand: Option<Stand<'_>>, input: &Input, strict: bool) -> Result<(), Error> {
    let empty = Command::default();
    let command = match input {
        Input::Values(_) => return Ok(()),
        Input::Resume => &empty,
        Input::Command(command) => command,
    };
    let brings = command.update.is_some() || !command.goto.is_empty();
    let Some(Stand { is_pending, records, run }) = stand else {
        return if brings { Ok(()) } else { Err(Error::EmptyInput { graph: graph.to_owned() }) };
    };
    // What an earlier attempt at the run answered is open no more.
    if run.is_some() && records.iter().any(|record| record.answered_by == run && !is_command(record)) {
        return Ok(());
    }
    // A command that was kept and not yet applied leads somewhere.
    let is_pending = is_pending || records.iter().any(is_command);
    let open = open_questions(records);
    match &command.resume {
        None if strict && !is_pending && !brings => Err(Error::EmptyInput { graph: graph.to_owned() }),
        None => Ok(()),
        Some(_) if strict && open.is_empty() && !is_pending => Err(Error::NoQuestion { graph: graph.to_owned() }),
        Some(Answer::One(_)) if open.len() > 1 => Err(Error::AmbiguousAnswer { open }),
        Some(Answer::ById(answers)) if strict => {
            match answers.iter().find(|(id, _)| open.iter().all(|question| question.id != *id)) {
                Some((id, _)) => Err(Error::UnknownQuestion {
                    id: id.to_string(),
                    open: open.iter().map(|question| question.id.to_string()).collect(),
                }),
                None => Ok(()),
            }
        }
        Some(_) => Ok(()),
    }
}
