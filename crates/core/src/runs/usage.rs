//! What a run has used in the attempts before this one.

use runloom_engine::model::Usage;
use runloom_store::{ReadLimit, Run};

use crate::{Session, log::Codec};

impl Session {
    /// What a run used in its attempts before: noted when it was given back, and in its log where its server went down.
    pub(super) async fn used_before(&self, run: &Run, was_running: bool) -> Usage {
        let noted = stored_usage(run);
        if !was_running {
            return noted;
        }
        let store = &self.inner.store;
        let last = async {
            let last = store.log_bounds(self.tenant(), run.id).await?.last;
            store.read_log(self.tenant(), run.id, last, ReadLimit { records: 1, ..ReadLimit::default() }).await
        };
        match last.await {
            Ok(rows) => rows.first().map_or(noted, |row| Codec::used(&row.bytes)),
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "what a run has used before is not known");
                noted
            }
        }
    }
}

/// What is noted on a run as used.
pub(super) fn stored_usage(run: &Run) -> Usage {
    run.usage.as_ref().and_then(|usage| runloom_engine::from_value(usage).ok()).unwrap_or_default()
}
