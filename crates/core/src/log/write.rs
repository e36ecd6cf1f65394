//! Writing a run's log: parts are numbered and shown at once, and kept behind, many in a row where many come at once.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use runloom_engine::{
    Clock,
    model::Usage,
    stream::{Payload, SnapshotRef, TaskRef},
};
use runloom_store::{Ack, Attempt, LogRecord, Store};

use super::{
    codec::{Codec, Fresh},
    live::Live,
    record::{Body, Record},
};
use crate::{Result, events::Translator};

/// How many numbers are reserved at once.
const BLOCK: u64 = 16_384;
/// How many records are put into one row.
const MOST_RECORDS: usize = 1024;
/// With how many rows on their way a run asks the store for room before the next.
const ROOM: usize = 4;
/// How many rows may be on their way to disk before the run waits.
const MOST_UNDER_WAY: usize = 64;

/// Writes the log of one attempt.
pub(crate) struct LogWriter {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    attempt: Attempt,
    codec: Codec,
    clock: Arc<dyn Clock>,
    /// What the run has used so far, in all attempts: kept with the records.
    pub used: Usage,
    next: u64,
    reserved: u64,
    reserving: Option<(u64, Ack)>,
    fresh: Vec<Fresh>,
    under_way: VecDeque<(u64, Ack)>,
    /// Counts the events of the thread that the log gives.
    translator: Translator,
    events: u64,
}

/// What a record is of, beside its body.
#[derive(Default)]
pub(crate) struct Origin {
    pub namespace: Arc<str>,
    pub step: Option<i64>,
    pub task: Option<TaskRef>,
    pub base: Option<SnapshotRef>,
}

impl LogWriter {
    /// Numbers from `next` to before `reserved` are the attempt's own.
    pub fn new(
        live: Arc<Live>,
        store: Arc<dyn Store>,
        attempt: Attempt,
        codec: Codec,
        clock: Arc<dyn Clock>,
        (next, reserved): (u64, u64),
    ) -> Self {
        live.restart();
        Self {
            live,
            store,
            attempt,
            codec,
            clock,
            used: Usage::default(),
            next,
            reserved,
            reserving: None,
            fresh: Vec::new(),
            under_way: VecDeque::new(),
            translator: Translator::default(),
            events: 0,
        }
    }

    /// Continues the count of events that `translator` has come to with what earlier attempts logged.
    pub fn count_from(&mut self, (translator, events): (Translator, u64)) {
        (self.translator, self.events) = (translator, events);
    }

    /// How many events of the thread the log gives so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many numbers an attempt reserves when it begins.
    pub const RESERVE: u64 = BLOCK;

    /// Numbers a record, shows it, and puts it where the next [`flush`](Self::flush) takes it.
    pub async fn push(&mut self, origin: Origin, body: Body) -> Result<()> {
        self.push_one_of_many(origin, body).await?;
        self.live.wake();
        Ok(())
    }

    /// The same, where others follow at once: who waits is woken with the last of them.
    pub async fn push_one_of_many(&mut self, origin: Origin, body: Body) -> Result<()> {
        let fresh = self.number(origin, body).await?;
        self.live.publish(fresh.record.clone());
        self.fresh.push(fresh);
        if self.fresh.len() >= MOST_RECORDS {
            self.live.wake();
            self.flush().await?;
        }
        Ok(())
    }

    /// The same, but shows it only once it is on disk, and all before it.
    pub async fn push_durable(&mut self, origin: Origin, body: Body) -> Result<()> {
        let fresh = self.number(origin, body).await?;
        let record = fresh.record.clone();
        self.fresh.push(fresh);
        self.flush().await?;
        self.settle().await?;
        self.live.publish(record);
        self.live.wake();
        Ok(())
    }

    async fn number(&mut self, origin: Origin, body: Body) -> Result<Fresh> {
        let seq = self.next;
        if seq + BLOCK / 2 >= self.reserved && self.reserving.is_none() {
            let end = self.reserved + BLOCK;
            self.reserving = Some((end, self.store.reserve_log(self.attempt, end)));
        }
        // A number goes out only once it is known that no later attempt will use it.
        if seq >= self.reserved
            && let Some((end, ack)) = self.reserving.take()
        {
            ack.await?;
            self.reserved = end;
        }
        self.next += 1;
        let record = Record {
            seq,
            emit_time: self.clock.now(),
            run_id: self.attempt.run,
            attempt: self.attempt.number,
            namespace: origin.namespace,
            step: origin.step,
            task: origin.task,
            body,
        };
        self.events += self.translator.count(&record);
        Ok(Fresh { record: Arc::new(record), base: origin.base })
    }

    /// Begins to keep what has been pushed.
    pub async fn flush(&mut self) -> Result<()> {
        let Some(last) = self.fresh.last().map(|f| f.record.seq) else { return Ok(()) };
        let bytes = self.codec.encode(self.attempt.number, self.used, &self.fresh)?;
        self.fresh.clear();
        if self.under_way.len() > ROOM {
            self.store.room().await;
        }
        let ack = self.store.append_log(self.attempt, vec![LogRecord { seq: last, bytes }]);
        self.under_way.push_back((last, ack));
        while self.under_way.len() > MOST_UNDER_WAY {
            self.settle_oldest().await?;
        }
        self.settle_ready();
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<()> {
        if let Some((seq, ack)) = self.under_way.pop_front() {
            ack.await?;
            self.live.durable(seq);
        }
        Ok(())
    }

    /// Notes which rows have come to disk meanwhile, without waiting. A failure is seen when the row is waited for.
    fn settle_ready(&mut self) {
        use futures_util::FutureExt;
        while let Some((seq, ack)) = self.under_way.front_mut() {
            match ack.now_or_never() {
                Some(Ok(())) => {
                    self.live.durable(*seq);
                    self.under_way.pop_front();
                }
                Some(Err(error)) => {
                    let seq = *seq;
                    self.under_way.pop_front();
                    self.under_way.push_front((seq, Box::pin(std::future::ready(Err(error)))));
                    return;
                }
                None => return,
            }
        }
    }

    /// Waits for something else, and meanwhile notes which rows have come to disk: readers may wait for that.
    pub async fn settle_while<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        poll_fn(|cx| {
            if let Poll::Ready(done) = other.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            while let Some((seq, ack)) = self.under_way.front_mut() {
                let seq = *seq;
                match ack.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => {
                        self.live.durable(seq);
                        self.under_way.pop_front();
                    }
                    // A failure is seen when the row is waited for.
                    Poll::Ready(Err(error)) => {
                        self.under_way.pop_front();
                        self.under_way.push_front((seq, Box::pin(std::future::ready(Err(error)))));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until all that was pushed is on disk.
    pub async fn settle(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// The last record as a row, for the transaction that ends the run; shown by [`shown`](Self::shown) afterwards.
    pub async fn last(&mut self, origin: Origin, body: Body) -> Result<(Arc<Record>, Vec<LogRecord>)> {
        let fresh = self.number(origin, body).await?;
        let record = fresh.record.clone();
        self.fresh.push(fresh);
        let bytes = self.codec.encode(self.attempt.number, self.used, &self.fresh)?;
        self.fresh.clear();
        Ok((record.clone(), vec![LogRecord { seq: record.seq, bytes }]))
    }

    /// Shows the last record, once it is on disk, and ends the live log.
    pub fn shown(&self, record: Arc<Record>) {
        let seq = record.seq;
        self.live.publish(record);
        self.live.durable(seq);
        self.live.end();
    }
}

impl Origin {
    /// Of a part that the engine told.
    pub fn of(part: runloom_engine::stream::Part) -> (Self, Payload) {
        let origin = Self { namespace: part.namespace, step: Some(part.step), task: part.task, base: part.base };
        (origin, part.payload)
    }
}
