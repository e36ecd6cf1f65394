//! How a run begins: with new input, with a command, by going on where the thread stopped, or from an older checkpoint.

use super::{
    channels::Channels,
    control::Next,
    finish::{Saver, WITHIN_NS},
    limits::{Pacer, Written},
    pending,
    resume::{self, Stand},
    superstep::{Superstep, command_writes},
    writes::TaskWrites,
};
use crate::{
    Answer, Command, Error, Input, NodeError, RunId,
    checkpoint::{Checkpoint, Outcome, Saved, Source, TaskRecord, WriteKind},
};

impl Superstep {
    /// Brings the graph to where its first step can be planned.
    pub async fn start(&mut self, input: Input) -> Result<(), NodeError> {
        if self.level.depth == 0 && self.saver.keeps() && !self.has_begun() {
            self.check_resume(&input)?;
        }
        match input {
            Input::Values(values) if !self.goes_on() => self.take_input(values),
            Input::Command(command) if !self.has_begun() => self.take_command(command),
            // The same run again, after a crash: its input has been taken.
            Input::Values(_) | Input::Command(_) | Input::Resume => self.go_on(),
        }
    }

    /// Whether this very run has made the checkpoint that it starts from: then it goes on from there.
    fn has_begun(&self) -> bool {
        let run = RunId(self.level.run.run_id);
        let is_own = |last: &Checkpoint| {
            // One that keeps its own state may have run in another task of this run.
            let within = self.level.within.as_ref().map(|within| &*within.checkpoint_ns);
            last.run_id == Some(run) && within.is_none_or(|ns| last.metadata.get_str(WITHIN_NS) == Some(ns))
        };
        self.level.run.config.attempt > 1 && self.saver.last.as_deref().is_some_and(is_own)
    }

    /// Whether a given input is not to be taken: it was before, or the graph is a subgraph that goes on.
    fn goes_on(&self) -> bool {
        self.has_begun() || (self.resuming && self.level.depth > 0 && self.saver.last.is_some())
    }

    /// Whether the run can go on where the thread stands.
    fn check_resume(&self, input: &Input) -> Result<(), NodeError> {
        let run = &self.level.run;
        let stand = self.saver.last.as_ref().map(|last| Stand {
            is_pending: last.control.is_pending(),
            records: &self.records,
            run: (run.config.attempt > 1).then_some(RunId(run.run_id)),
        });
        Ok(resume::check(self.level.graph.name(), stand, input, run.config.strict)?)
    }

    /// New input: what was pending is dropped, the input waits to be applied.
    fn take_input(&mut self, values: crate::Value) -> Result<(), NodeError> {
        if values.as_object().is_none() {
            return Err(Error::InvalidInput {
                graph: self.level.graph.name().to_string(),
                field: None,
                message: format!("expected an object by channel, and was given {}", values.kind()),
            }
            .into());
        }
        self.apply_commands()?;
        self.apply_handed_over()?;
        let mut applied = super::channels::Applied::default();
        self.resuming = false;
        self.next.begin_step();
        self.next.deferred.clear();
        self.records.clear();
        self.channels.expire(&self.level.graph.clone(), &mut applied);
        self.next.input = Some(values);
        self.saver.prepare(&self.level, &mut self.channels);
        self.saver.put(&self.level, &self.channels, &self.next, self.step, Source::Input, applied.changes);
        self.step += 1;
        Ok(())
    }

    /// Applies the last step of a graph that keeps its own state, where that step handed over to the parent: what it wrote
    /// went there too.
    fn apply_handed_over(&mut self) -> Result<(), NodeError> {
        if !self.records.iter().any(hands_over) {
            return Ok(());
        }
        let graph = self.level.graph.clone();
        let ended = self.plan()?.into_iter().filter_map(|task| {
            match &self.records.iter().find(|r| r.task == task.id)?.outcome {
                Some(Outcome::Done(writes)) => Some((task.path, TaskWrites::restore(&graph, Some(task.node), writes))),
                _ => None,
            }
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort_by_key(|(path, _)| *path);
        let all: Vec<_> = ended.iter().flat_map(|(_, writes)| writes.channels()).collect();
        let applied = self.channels.apply(&graph, &all)?;
        self.saver.dirty(&self.channels, &applied.changes);
        Ok(())
    }

    /// Nothing new: the stopped step goes on; from an older checkpoint, on a branch of its own.
    fn go_on(&mut self) -> Result<(), NodeError> {
        if self.saver.last.is_none() && self.level.graph.runtime.checkpointer.is_some() {
            return Err(Error::EmptyInput { graph: self.level.graph.name().to_string() }.into());
        }
        if self.saver.last.is_none() {
            return Err(Error::NoCheckpointer {
                graph: self.level.graph.name().to_string(),
                what: "a run without input",
            }
            .into());
        }
        self.apply_commands()?;
        let run = self.level.run.clone();
        match (run.replay.get(), self.level.origin.clone()) {
            (Some(replay), Some(ns)) if self.has_begun() => self.find_origin(replay, &ns),
            (Some(replay), Some(ns)) => self.fork_for_replay(replay, &ns),
            _ => self.fork_where_addressed(false),
        }
        self.resuming = true;
        self.tell_values(None);
        Ok(())
    }

    /// A command: answers to questions, an update, where to go.
    fn take_command(&mut self, command: Command) -> Result<(), NodeError> {
        let graph = self.level.graph.clone();
        let name = || graph.name().to_string();
        if command.parent {
            return Err(Error::NoParent { graph: name(), node: "the run's command".to_owned() }.into());
        }
        let is_empty = command.update.is_none() && command.goto.is_empty();
        if self.saver.last.is_none() && is_empty {
            // Nothing is kept, so nothing can be gone on with.
            return Err(Error::EmptyInput { graph: name() }.into());
        }
        if let Some(answer) = &command.resume {
            if !self.saver.keeps() {
                return Err(Error::NoCheckpointer { graph: name(), what: "an answer" }.into());
            }
            self.take_answer(answer);
        }
        let is_answer = command.resume.is_some();
        let writes = command_writes(&graph, Command { resume: None, ..command })?;
        if !writes.list.is_empty() {
            if self.saver.last.is_some() && !self.forks(is_answer) {
                // Applied before it is kept: what cannot be is not to stand in the way of what comes later.
                let record = pending::record(&graph, RunId(self.level.run.run_id), &writes, &self.records);
                self.records.extend(record.clone());
                self.apply_commands()?;
                if let Some(record) = record {
                    self.saver.put_task(&self.level, record);
                }
            } else {
                self.apply_commands()?;
                self.apply_command_writes(&writes)?;
            }
        } else {
            self.apply_commands()?;
        }
        if self.saver.last.is_none() {
            // The first thing on this thread: a checkpoint to go on from.
            self.saver.prepare(&self.level, &mut self.channels);
            self.saver.put(&self.level, &self.channels, &self.next, self.step, Source::Input, Vec::new());
            self.step += 1;
        } else {
            self.fork_where_addressed(is_answer);
        }
        self.resuming = true;
        self.tell_values(None);
        Ok(())
    }

    fn take_answer(&mut self, answer: &Answer) {
        let run = self.level.run.clone();
        // A node that failed with an answer it could not use asks again: the new answer takes the old one's place.
        for record in &mut self.records {
            let is_asked = record.interrupts.last().is_some_and(|q| match answer {
                Answer::One(_) => true,
                Answer::ById(answers) => answers.iter().any(|(id, _)| *id == q.id),
            });
            if is_asked && matches!(record.outcome, Some(Outcome::Failed(_))) && run.config.attempt == 1 {
                record.answers.pop();
            }
        }
        if let Answer::One(value) = answer {
            let mine = Some(RunId(run.run_id));
            let is_given = self.records.iter().any(|r| r.answered_by == mine && !pending::is_command(r));
            if !(run.config.attempt > 1 && is_given) {
                *run.answers.bare.lock() = Some(value.clone());
            }
        }
    }

    /// Applies what commands brought that the checkpoint still waits for, one after the other.
    fn apply_commands(&mut self) -> Result<(), NodeError> {
        let brought = pending::writes(&self.level.graph, &self.records);
        brought.iter().try_for_each(|writes| self.apply_command_writes(writes))
    }

    /// Applies writes that are nobody's step: what is triggered stays so.
    fn apply_command_writes(&mut self, writes: &TaskWrites) -> Result<(), NodeError> {
        let graph = self.level.graph.clone();
        let applied = self.channels.apply(&graph, &writes.refs())?;
        self.next.follow(&graph, writes);
        self.saver.dirty(&self.channels, &applied.changes);
        if !applied.changes.is_empty() {
            // No checkpoint holds this state.
            self.channels.set_checkpoint(None);
        }
        Ok(())
    }

    /// Whether the run starts a branch: from an addressed checkpoint, unless that was made to be gone on from.
    fn forks(&self, is_answer: bool) -> bool {
        let Some(last) = &self.saver.last else { return false };
        let is_time_travel = self.level.depth == 0 && self.level.run.config.checkpoint_id.is_some() && !is_answer;
        is_time_travel && (!matches!(last.source, Source::Update | Source::Fork) || self.saver.superseded)
    }

    fn fork_where_addressed(&mut self, is_answer: bool) {
        let is_addressed = self.level.depth == 0 && self.level.run.config.checkpoint_id.is_some();
        let is_time_travel = is_addressed && !is_answer;
        self.replaying = is_time_travel || (is_addressed && self.saver.superseded);
        if self.forks(is_answer) {
            self.records.clear();
            self.saver.prepare(&self.level, &mut self.channels);
            self.saver.put(&self.level, &self.channels, &self.next, self.step, Source::Fork, Vec::new());
            self.step += 1;
        }
    }
}

/// Whether a task sent its parent graph a command.
pub(super) fn hands_over(record: &TaskRecord) -> bool {
    matches!(&record.outcome, Some(Outcome::Done(writes)) if writes.iter().any(|w| matches!(w.0, WriteKind::Parent { .. })))
}

/// A graph as its checkpoint left it, ready to be started.
pub(crate) fn restore(
    level: std::sync::Arc<super::scope::Level>,
    saved: Option<Saved>,
    superseded: bool,
    latest: Option<crate::CheckpointId>,
    resuming: bool,
) -> Result<Superstep, Error> {
    let graph = &level.graph;
    let limit = i64::from(level.run.config.recursion_limit);
    let Some(saved) = saved else {
        let saver = Saver::new(&level, None, None);
        return Ok(Superstep {
            channels: Channels::start(graph),
            next: Next::new(graph),
            saver,
            step: -1,
            stop: limit,
            taken: 0,
            records: Vec::new(),
            resuming,
            replaying: false,
            shown: None,
            entered: None,
            origin: None,
            pacer: Pacer::new(),
            written: Written::default(),
            level,
        });
    };
    let mut saver = Saver::new(&level, Some(saved.checkpoint.id), saved.checkpoint.parent);
    saver.superseded = superseded;
    saver.floor = latest;
    let step = saved.checkpoint.step + 1;
    let next = Next::restore(graph, &saved.checkpoint.control)?;
    let channels = Channels::restore(graph, &saved.checkpoint);
    saver.last =
        Some(std::sync::Arc::new(crate::checkpoint::Checkpoint { values: Default::default(), ..saved.checkpoint }));
    Ok(Superstep {
        channels,
        next,
        saver,
        step,
        stop: step + limit + 1,
        taken: 0,
        records: saved.tasks,
        resuming,
        replaying: false,
        shown: None,
        entered: None,
        origin: None,
        pacer: Pacer::new(),
        written: Written::default(),
        level,
    })
}
