//! Whether a thread can take a run, as far as that is known when the run is asked for.

use std::{sync::Arc, time::Duration};

use runloom_engine::{List, Object, ThreadId, Value, checkpoint::Saved};
use runloom_store::{Thread, ThreadStatus};

use super::request::{RunRequest, Start};
use crate::{
    Error, Reason, Result, Session,
    graphs::{Served, check::answer_faults},
    state::{check_expected, no_checkpoint, told},
};

impl Session {
    /// Whether the thread can take the run: its latest checkpoint is the one the caller saw, and the one to start from is
    /// there and fits the graph.
    pub(super) async fn check_thread(&self, thread: &Thread, served: &Arc<Served>, request: &RunRequest) -> Result<()> {
        let (mut at, expected) = (request.spec.options.checkpoint_id, request.expected_checkpoint_id);
        let namespace = &request.spec.options.checkpoint_namespace;
        if let (Some(inner), false) = (at, namespace.is_empty()) {
            // The graphs around the subgraph fork at checkpoints that the engine finds; the latest tells whether they fit.
            let namespace = served.graph.stored_namespace(namespace);
            self.check_checkpoint(thread.id, &namespace, inner).await?;
            at = None;
        }
        let has_run = thread.graph.is_some() || thread.state_updated_at.is_some();
        let is_known = self.inner.runner.fits.lock().fits(thread, &served.revision);
        let mut from = match at {
            Some(at) => Some(self.saved(thread.id, Some(at)).await?.ok_or_else(|| no_checkpoint(thread.id, at))?),
            None if expected.is_none() && namespace.is_empty() && (!has_run || is_known) => return Ok(()),
            None => None,
        };
        if at.is_none() || expected.is_some() {
            let latest = self.saved(thread.id, None).await?;
            if let Some(expected) = expected {
                check_expected(thread.id, expected, latest.as_ref().map(|l| l.checkpoint.id))?;
            }
            from = from.or(latest);
        }
        // New input puts an end to what was open. Whoever asks strictly is told that it would be lost.
        let discards = !request.spec.options.strict && matches!(request.spec.options.start, Start::Input(_));
        match from {
            Some(saved) => self.fits(&saved.checkpoint, &served.graph, discards),
            None => Ok(()),
        }
    }

    /// Whether a run that brings no input can go on where its thread stands. While another run of the thread is active that
    /// is not known: a run that waits finds out when it begins, and tells it by its end.
    pub(super) async fn check_start(
        &self,
        thread: Option<&Thread>,
        served: &Arc<Served>,
        request: &RunRequest,
    ) -> Result<()> {
        let begins_later = request.start_time.is_some_and(|at| at > self.inner.clock.now());
        let options = &request.spec.options;
        let is_inside = !options.checkpoint_namespace.is_empty();
        if matches!(options.start, Start::Input(_)) || !options.strict || begins_later || is_inside {
            return Ok(());
        }
        let Some(id) = request.thread_id else { return Ok(()) };
        let input = request.spec.options.input();
        let check = |saved: Option<&Saved>| served.graph.check_resume(saved, &input).map_err(|error| told(error, id));
        let Some(thread) = thread else { return check(None) };
        let mut checked = Ok(());
        // What refuses is looked at twice: a run may have begun in between, and have left its step half done.
        for _ in 0..2 {
            match self.check_not_busy(id).await {
                Ok(()) => {}
                Err(error) if error.reason == Reason::ThreadBusy => return Ok(()),
                Err(error) => return Err(error),
            }
            let saved = self.saved(id, request.spec.options.checkpoint_id).await?;
            checked = check(saved.as_ref());
            if checked.is_ok() {
                break;
            }
            self.check_thread(thread, served, request).await?;
        }
        checked
    }

    /// Refuses answers that do not match the schemas of their questions. A run that waits for its thread finds out when it
    /// begins.
    pub(super) fn check_answers(&self, thread: Option<&Thread>, request: &RunRequest) -> Result<()> {
        let Start::Command(command) = &request.spec.options.start else { return Ok(()) };
        let open = thread.filter(|thread| thread.status == ThreadStatus::Interrupted);
        let by_task = open.and_then(|thread| thread.interrupts.as_ref()?.as_object());
        let questions: Vec<&Value> = by_task
            .into_iter()
            .flat_map(Object::iter)
            .filter_map(|(_, list)| list.as_list())
            .flat_map(List::iter)
            .collect();
        let mut fields = Vec::new();
        for question in &questions {
            let (Some(schema), Some(id)) = (question.get("response_schema"), question.get_str("id")) else { continue };
            let by_id = command.resume_by_id.iter().find(|(of, _)| of.as_str() == id);
            let answer = match (by_id, &command.resume) {
                (Some((_, answer)), _) => Some((format!("command.resume_by_id[{id}]"), answer)),
                (None, Some(answer)) if questions.len() == 1 => Some(("command.resume".to_owned(), answer)),
                _ => None,
            };
            if let Some((path, answer)) = answer {
                fields.extend(answer_faults(&path, schema, answer));
            }
        }
        match fields.first() {
            None => Ok(()),
            Some((path, what)) => {
                let message = format!("{path}: does not match the question's response_schema: {what}");
                Err(Error { fields, ..Error::new(Reason::FieldInvalid, message) })
            }
        }
    }

    /// A checkpoint of a thread, or the latest, with what tasks did after it.
    pub(super) async fn saved(
        &self,
        thread: ThreadId,
        at: Option<runloom_engine::CheckpointId>,
    ) -> Result<Option<Saved>> {
        let saved = self.inner.store.checkpointer_by_hand(self.tenant(), None).get(thread, "", at).await;
        saved.map_err(|e| Error::new(Reason::StoreUnavailable, e.to_string()).retry_after(Duration::from_secs(1)))
    }
}
