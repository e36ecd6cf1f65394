//! What a run has used in the attempts before this one.

use runloom_engine::model::Usage;
use runloom_store::{ReadLimit, Run};

use crate::{Error, Reason, Result, Session, log::Codec};

impl Session {
    /// What a run used in its attempts before: noted when it was given back, and in its log where its server went down.
    pub(super) async fn used_before(&self, run: &Run, was_running: bool) -> Result<Usage> {
        let noted = stored_usage(run)?;
        if !was_running {
            return Ok(noted);
        }
        let store = &self.inner.store;
        let last = async {
            let last = store.log_bounds(self.tenant(), run.id).await?.last;
            store.read_log(self.tenant(), run.id, last, ReadLimit { records: 1, ..ReadLimit::default() }).await
        };
        match last.await {
            Ok(rows) => rows.first().map_or(Ok(noted), |row| Codec::used(run.id, &row.bytes)),
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "what a run has used before is not known");
                Ok(noted)
            }
        }
    }
}

/// What is noted on a run as used.
pub(crate) fn stored_usage(run: &Run) -> Result<Usage> {
    let Some(usage) = &run.usage else { return Ok(Usage::default()) };
    runloom_engine::from_value(usage).map_err(|error| {
        let message = format!("the stored usage of run {} cannot be read: {error}", run.id);
        Error::new(Reason::Internal, message).with("run_id", run.id)
    })
}
