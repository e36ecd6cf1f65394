//! Reading a thread: every run of it, live, one after the other.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{Stream, stream::BoxStream};
use runloom_engine::{RunId, ThreadId};
use runloom_store::{Direction, PageRequest, RunFilter};

use super::{
    read::Cursor,
    record::{ReadOptions, Record},
};
use crate::{Core, Error, Reason, Result};

/// A reader of all runs of a thread: each record with the cursor from which to go on. It never ends by itself.
pub struct ThreadReader {
    inner: BoxStream<'static, Result<(Arc<Record>, String)>>,
}

impl Stream for ThreadReader {
    type Item = Result<(Arc<Record>, String)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

struct Follow {
    core: Core,
    thread: ThreadId,
    options: ReadOptions,
    news: tokio::sync::watch::Receiver<u64>,
    now: Option<Cursor>,
    /// The run that is being read, or was read last.
    last: Option<RunId>,
    seen: HashSet<RunId>,
    failed: bool,
}

impl Core {
    /// Reads every run of a thread from now on, or from a cursor that such a reader gave: `run:seq`, or `-` for one that
    /// has seen no run yet.
    pub async fn read_thread(
        &self,
        thread: ThreadId,
        after: Option<String>,
        options: ReadOptions,
    ) -> Result<ThreadReader> {
        // Followed before it is looked at, so that no run is missed between the two.
        let news = self.inner.runner.logs.follow(thread);
        self.inner.store.get_thread(thread).await?;
        let mut follow = Follow {
            core: self.clone(),
            thread,
            options,
            news,
            now: None,
            last: None,
            seen: HashSet::new(),
            failed: false,
        };
        follow.begin(after.as_deref()).await?;
        let inner =
            futures_util::stream::unfold(
                follow,
                |mut follow| async move { follow.next().await.map(|item| (item, follow)) },
            );
        Ok(ThreadReader { inner: Box::pin(inner) })
    }
}

impl Follow {
    async fn begin(&mut self, after: Option<&str>) -> Result<()> {
        let invalid = || Error::new(Reason::CursorInvalid, "the cursor is not one that a stream of this thread gave");
        let runs = self.runs().await?;
        match after {
            None | Some("-") => {
                // From now on: what is under way is read from here, what is over is not read.
                self.seen.extend(runs.iter().filter(|r| r.status.is_end()).map(|r| r.id));
            }
            Some(cursor) => {
                let (run, seq) = cursor.split_once(':').ok_or_else(invalid)?;
                let run: RunId = run.parse().map_err(|_| invalid())?;
                let seq: u64 = seq.parse().map_err(|_| invalid())?;
                match runs.iter().position(|r| r.id == run) {
                    Some(at) => {
                        self.seen.extend(runs[..=at].iter().map(|r| r.id));
                        self.open(run, seq).await?;
                    }
                    // A run that is gone was rolled back or deleted: what was made before it has been seen.
                    None => self.seen.extend(runs.iter().filter(|r| r.id < run).map(|r| r.id)),
                }
            }
        }
        Ok(())
    }

    /// The runs of the thread that have begun, or ended without having, in that order.
    async fn runs(&self) -> Result<Vec<runloom_store::Run>> {
        let mut all = Vec::new();
        let mut page = PageRequest::first(1000);
        loop {
            let filter = RunFilter { thread: Some(self.thread), ..RunFilter::default() };
            let got = self.core.inner.store.list_runs(filter, Direction::Ascending, page).await?;
            all.extend(got.items);
            match got.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => {
                    let moved = |r: &runloom_store::Run| r.started_at.or(r.ended_at);
                    all.retain(|r| moved(r).is_some());
                    all.sort_by_key(moved);
                    return Ok(all);
                }
            }
        }
    }

    async fn open(&mut self, run: RunId, after: u64) -> Result<()> {
        let run = self.core.inner.store.get_run(run).await?;
        // The modes a reader asks for are those it wants of whatever a run records.
        let recorded = crate::RunSpec::modes_of(&run);
        let modes = self.options.modes.map(|m| m.iter().filter(|m| recorded.has(*m)).collect());
        let options = ReadOptions { after, modes, ..self.options.clone() };
        self.last = Some(run.id);
        self.now = Some(Cursor::open(self.core.clone(), run, options).await?);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<(Arc<Record>, String)>> {
        while !self.failed {
            if let Some(cursor) = &mut self.now {
                match cursor.next().await {
                    Some(Ok(record)) => {
                        let at = format!("{}:{}", record.run_id, record.seq);
                        return Some(Ok((record, at)));
                    }
                    // A run that was rolled back is over.
                    Some(Err(error)) if error.reason == Reason::RunNotFound => self.now = None,
                    Some(Err(error)) => {
                        self.failed = true;
                        return Some(Err(error));
                    }
                    None => self.now = None,
                }
                continue;
            }
            self.news.borrow_and_update();
            let next = match self.runs().await {
                Ok(runs) => runs.into_iter().find(|r| !self.seen.contains(&r.id)),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            if let Some(run) = next {
                self.seen.insert(run.id);
                match self.open(run.id, 0).await {
                    Ok(()) => continue,
                    Err(error) if error.reason == Reason::RunNotFound => continue,
                    Err(error) => {
                        self.failed = true;
                        return Some(Err(error));
                    }
                }
            }
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() { return None },
                () = self.core.inner.closing.cancelled() => {
                    self.failed = true;
                    return Some(Err(Error::new(
                        Reason::ServerDraining,
                        "the server is going down; join again from the cursor",
                    )
                    .retry_after(Duration::from_secs(1))));
                }
            }
        }
        None
    }
}
