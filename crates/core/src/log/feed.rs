//! The live log of a run that another server drives: one task reads it from the store for all readers of this server.

use std::{sync::Arc, time::Duration};

use runloom_store::{ReadLimit, Topic};

use super::{codec::Codec, live::Live, record::Body};
use crate::{Result, Session};

/// How often the log is read without a hint.
const POLL: Duration = Duration::from_secs(5);

/// The right to feed a live log, while no attempt on this server does.
pub(crate) struct Feed {
    live: Arc<Live>,
    /// Which writer of the live log this is: an attempt that begins here ends it.
    writer: u64,
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Readers that wait start another one where they need it.
        self.live.end_feed(self.writer);
        self.live.wake_all();
    }
}

impl Session {
    /// Feeds a live log from the store, from after a number on, unless it is fed already.
    pub(super) fn feed(&self, live: &Arc<Live>, codec: &Codec, after: u64) {
        let Some((writer, after)) = live.begin_feed(after) else { return };
        let (session, codec) = (self.clone(), codec.clone());
        let feed = Feed { live: live.clone(), writer };
        tokio::spawn(async move {
            let closing = session.inner.closing.clone();
            let fed = closing.run_until_cancelled(session.feed_from(&feed, &codec, after)).await;
            if let Some(Err(error)) = fed {
                tracing::warn!(run = %feed.live.run, %error, "cannot read the log of a run on another server; trying again");
                tokio::time::sleep(POLL).await;
            }
        });
    }

    async fn feed_from(&self, feed: &Feed, codec: &Codec, mut after: u64) -> Result<()> {
        let live = &feed.live;
        // Watched before anything is read, so that nothing is missed between the two.
        let mut hints = self.store().watch(Topic::Run(live.run));
        // As long as anybody else reads it, and no attempt of this server writes it. An attempt is active before it takes
        // the place of a feed, so one of both is seen here.
        while Arc::strong_count(live) > 1 && self.inner.runner.active(live.run).is_none() {
            let rows = match self.store().read_log(self.tenant(), live.run, after + 1, ReadLimit::default()).await {
                Ok(rows) => rows,
                Err(runloom_store::Error::NotFound { .. }) => {
                    live.gone();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            if rows.is_empty() {
                // A hint may be lost.
                drop(tokio::time::timeout(POLL, hints.changed()).await);
                continue;
            }
            for row in rows {
                for record in codec.decode(&row.bytes, after, u64::MAX).await? {
                    after = record.seq;
                    let is_end = matches!(record.body, Body::End(_));
                    if !live.publish_stored(record, feed.writer) {
                        return Ok(());
                    }
                    if is_end {
                        live.end();
                        self.inner.runner.logs.close(live.run);
                        return Ok(());
                    }
                }
                live.durable(row.seq);
                live.wake();
            }
        }
        Ok(())
    }
}
