//! The rules that every store applies alike: who may write a run, and how its state changes.

use std::time::SystemTime;

use runloom_engine::{RunId, ThreadId, Value};

use crate::{
    Attempt, CancelAction, CancelRequest, Canceller, CreatedRun, Error, NewRun, RequestKey, Result, Run, RunEnd,
    RunFilter, RunStatus, ServerId, TenantId, ThreadStatus, ThreadUpdate,
};

/// What the writes of an attempt are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Fence {
    /// The run's state.
    pub status: RunStatus,
    /// The run's current attempt.
    pub attempt: u32,
}

impl Fence {
    /// The number names the run's current attempt.
    fn current(self, named: Attempt) -> Result<()> {
        if named.number == self.attempt { Ok(()) } else { Err(superseded(named, Some(self.attempt))) }
    }

    /// The attempt may write: it is the current one, and under way, or none has begun.
    pub fn check(self, named: Attempt) -> Result<()> {
        self.current(named)?;
        match self.status {
            RunStatus::Running => Ok(()),
            RunStatus::Pending if self.attempt == 0 => Ok(()),
            RunStatus::Pending => Err(superseded(named, None)),
            status => Err(Error::RunState { run: named.run, status, hint: "it is over, and nothing more is written" }),
        }
    }
}

/// The write of an attempt that does not hold its run.
pub fn superseded(named: Attempt, current: Option<u32>) -> Error {
    Error::Superseded { run: named.run, attempt: named.number, current }
}

impl Run {
    /// The run of a request: pending, at attempt 0.
    pub fn new(tenant: TenantId, id: RunId, thread: ThreadId, new: NewRun, now: SystemTime) -> Self {
        Self {
            id,
            thread,
            tenant,
            assistant: new.assistant,
            graph: new.graph,
            revision: new.revision,
            status: RunStatus::Pending,
            attempt: 0,
            server: None,
            given_back: 0,
            multitask: new.multitask,
            created_at: now,
            updated_at: now,
            started_at: None,
            ended_at: None,
            start_at: new.start_at,
            request: new.request,
            request_key: new.request_key,
            error: None,
            usage: None,
            last_seq: 0,
            events_before: None,
            cancel: None,
            stateless: new.stateless,
            expires_at: None,
        }
    }

    /// The answer to a request that has made this run before.
    pub fn again(self, key: &RequestKey) -> Result<CreatedRun> {
        match &self.request_key {
            Some(known) if known.hash == key.hash => Ok(CreatedRun { run: self, new: false }),
            _ => Err(Error::RequestReused { request_id: key.id.clone(), run: self.id }),
        }
    }

    /// What writes are checked against.
    pub fn fence(&self) -> Fence {
        Fence { status: self.status, attempt: self.attempt }
    }

    /// True where it keeps its thread from taking a run that would be refused otherwise.
    pub fn occupies(&self, now: SystemTime) -> bool {
        match self.status {
            RunStatus::Running => true,
            RunStatus::Pending => self.due(now),
            _ => false,
        }
    }

    /// True where its time has come.
    pub fn due(&self, now: SystemTime) -> bool {
        self.start_at.is_none_or(|at| at <= now)
    }

    /// Begins the attempt after the one seen.
    ///
    /// `is_live` says whether the server that drives it now has a lease that lasts; `events` is how many events its thread
    /// has so far.
    pub fn begin(
        &mut self,
        seen: Attempt,
        server: ServerId,
        is_live: bool,
        events: Option<u64>,
        now: SystemTime,
    ) -> Result<()> {
        self.fence().current(seen)?;
        if self.status == RunStatus::Running && is_live && self.server != Some(server) {
            return Err(Error::RunState {
                run: self.id,
                status: self.status,
                hint: "another server drives it, whose lease lasts",
            });
        }
        if self.status.is_end() {
            return Err(Error::RunState {
                run: self.id,
                status: self.status,
                hint: "a run that is over does not begin",
            });
        }
        self.attempt += 1;
        self.server = Some(server);
        self.status = RunStatus::Running;
        if self.started_at.is_none() {
            self.started_at = Some(now);
            self.events_before = events;
        }
        self.updated_at = now;
        Ok(())
    }

    /// Makes it pending again.
    pub fn release(&mut self, attempt: Attempt, usage: Option<Value>, now: SystemTime) -> Result<()> {
        self.fence().check(attempt)?;
        if self.status != RunStatus::Running {
            return Err(Error::RunState {
                run: self.id,
                status: self.status,
                hint: "only a running run is given back",
            });
        }
        self.status = RunStatus::Pending;
        self.server = None;
        self.given_back += 1;
        self.usage = usage;
        self.updated_at = now;
        Ok(())
    }

    /// Ends it. What then changes of its thread is answered, with the thread's own status where the run held it.
    pub fn finish(&mut self, attempt: Attempt, end: RunEnd, last: u64, now: SystemTime) -> Result<ThreadUpdate> {
        self.fence().current(attempt)?;
        let refuse = |hint| Err(Error::RunState { run: self.id, status: self.status, hint });
        if !end.status.is_end() {
            return Err(Error::Invalid(format!("a run does not end as {}", end.status)));
        }
        if self.status.is_end() {
            return refuse("it is over already");
        }
        let mut thread = end.thread;
        if self.status == RunStatus::Running {
            thread.status.get_or_insert(ThreadStatus::Idle);
        } else if matches!(end.status, RunStatus::Succeeded | RunStatus::AwaitingInput) {
            return refuse("it has not begun, and can only fail, time out or be cancelled");
        }
        self.status = end.status;
        self.server = None;
        self.error = end.error;
        self.usage = end.usage;
        self.expires_at = end.expires_at;
        self.last_seq = last;
        self.ended_at = Some(now);
        self.updated_at = now;
        Ok(thread)
    }

    /// Records a request to cancel. A rollback replaces an interrupt, never the other way round.
    pub fn cancel(&mut self, action: CancelAction, by: Canceller, now: SystemTime) {
        if self.status.is_end() {
            return;
        }
        let asked = self.cancel.get_or_insert(CancelRequest { action, by, at: now });
        asked.action = asked.action.max(action);
        self.updated_at = now;
    }

    /// Refuses to delete a run that is running.
    pub fn check_deletable(&self) -> Result<()> {
        if self.status == RunStatus::Running {
            return Err(Error::RunState { run: self.id, status: self.status, hint: "cancel it before it is deleted" });
        }
        Ok(())
    }
}

impl RunFilter {
    /// True where a run is one of those meant.
    pub fn matches(&self, run: &Run) -> bool {
        self.thread.is_none_or(|thread| run.thread == thread)
            && (self.status.is_empty() || self.status.contains(&run.status))
            && self.assistant.is_none_or(|assistant| run.assistant == Some(assistant))
            && self.graph.as_ref().is_none_or(|graph| run.graph == *graph)
    }
}
