//! The end of a log that is in memory: where a run's records are first, and where its readers wait.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use runloom_engine::RunId;
use tokio::sync::watch;

use super::record::Record;

/// How many records stay in memory once they are on disk, while nobody reads: what a reader that comes back needs.
const KEPT: usize = 4096;
/// And how heavy they may be together, in bytes. A reader that is not further behind than this is spared the disk.
const KEPT_BYTES: u64 = 16 << 20;

/// The live end of one run's log.
pub(crate) struct Live {
    pub run: RunId,
    state: Mutex<State>,
    /// Rings for records that were published.
    published: Bell,
    /// Rings for records that have come to disk.
    stored: Bell,
    readers: watch::Sender<Readers>,
    /// Where each of them stands.
    places: Mutex<Vec<Weak<AtomicU64>>>,
    watched: AtomicBool,
}

#[derive(Default)]
struct State {
    records: VecDeque<Arc<Record>>,
    /// About their bytes.
    weight: u64,
    /// The last number that is on disk.
    durable: u64,
    ended: bool,
    /// True where the run was deleted.
    gone: bool,
    /// Counts those who write here: attempts of this server, and feeds of what other servers write.
    writer: u64,
    /// A feed is under way.
    is_fed: bool,
}

/// Who reads a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readers {
    pub now: usize,
    /// When the last one left, where any ever read.
    pub left: Option<Instant>,
    /// Nothing more will come for them.
    pub over: bool,
}

/// What a reader finds after a number.
pub(crate) enum Found {
    /// These follow.
    Records(Vec<Arc<Record>>),
    /// What follows is on disk, up to before this number.
    OnDisk(u64),
    /// Nothing yet.
    Wait,
    /// Nothing more will come.
    Ended,
    /// The run was deleted.
    Gone,
}

impl Live {
    fn new(run: RunId) -> Arc<Self> {
        Arc::new(Self {
            run,
            state: Mutex::default(),
            published: Bell::default(),
            stored: Bell::default(),
            readers: watch::Sender::new(Readers::default()),
            places: Mutex::default(),
            watched: AtomicBool::new(false),
        })
    }

    /// Shows a record to readers that look. Those that wait are woken by [`wake`](Self::wake).
    pub fn publish(&self, record: Arc<Record>) {
        let mut state = self.state.lock();
        state.weight += record.weight();
        state.records.push_back(record);
    }

    /// An attempt of this server writes from here on. The records in memory are forgotten: what follows need not follow on
    /// them, and what was not stored is lost. Who has not seen them reads the store.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.records.clear();
        state.weight = 0;
        state.writer += 1;
        state.is_fed = false;
    }

    /// Lets one task feed the records of another server, from after a number on. Returns which writer it is, and after
    /// which number it begins; none where one feeds already.
    pub fn begin_feed(&self, after: u64) -> Option<(u64, u64)> {
        let mut state = self.state.lock();
        if state.is_fed || state.ended {
            return None;
        }
        state.is_fed = true;
        state.writer += 1;
        Some((state.writer, after.max(state.records.back().map_or(0, |record| record.seq))))
    }

    /// Ends a feed, unless another writer has taken its place.
    pub fn end_feed(&self, writer: u64) {
        let mut state = self.state.lock();
        if state.writer == writer {
            state.is_fed = false;
        }
    }

    /// Shows a record that was read from the store. False where the feed has ended.
    pub fn publish_stored(&self, record: Arc<Record>, writer: u64) -> bool {
        let mut state = self.state.lock();
        if state.writer != writer {
            return false;
        }
        state.durable = state.durable.max(record.seq);
        state.weight += record.weight();
        state.records.push_back(record);
        true
    }

    /// Wakes the readers that wait for records that were published.
    pub fn wake(&self) {
        self.published.ring();
    }

    /// Wakes all readers that wait.
    pub fn wake_all(&self) {
        self.published.ring();
        self.stored.ring();
    }

    /// Records up to a number are on disk: what nobody is likely to need from memory goes.
    pub fn durable(&self, seq: u64) {
        let kept = if self.readers.borrow().now > 0 { usize::MAX } else { KEPT };
        let mut state = self.state.lock();
        state.durable = state.durable.max(seq);
        while (state.records.len() > kept || state.weight > KEPT_BYTES)
            && state.records.front().is_some_and(|r| r.seq <= state.durable)
            && let Some(gone) = state.records.pop_front()
        {
            state.weight -= gone.weight();
        }
        drop(state);
        self.stored.ring();
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.readers.send_modify(|r| r.over = true);
        self.published.ring();
        self.stored.ring();
    }

    /// The run was deleted.
    pub fn gone(&self) {
        let mut state = self.state.lock();
        state.gone = true;
        state.ended = true;
        drop(state);
        self.readers.send_modify(|r| r.over = true);
        self.published.ring();
        self.stored.ring();
    }

    /// What follows a number: at most so many records, until they weigh so many bytes. With `durable`, only what is on disk.
    pub fn after(&self, seq: u64, most: usize, most_bytes: u64, durable: bool) -> Found {
        let state = self.state.lock();
        match state.records.front() {
            Some(first) if first.seq > seq + 1 => Found::OnDisk(first.seq),
            Some(_) => {
                let from = state.records.partition_point(|r| r.seq <= seq);
                let mut weight = 0;
                let fits = |record: &&Arc<Record>| {
                    let had = weight;
                    weight += record.weight();
                    had == 0 || weight <= most_bytes
                };
                let last = if durable { state.durable } else { u64::MAX };
                let records = state.records.iter().skip(from).take(most).take_while(|record| record.seq <= last);
                let found: Vec<_> = records.take_while(fits).cloned().collect();
                match (found.is_empty(), state.ended, state.gone) {
                    (false, ..) => Found::Records(found),
                    (true, _, true) => Found::Gone,
                    (true, true, _) => Found::Ended,
                    _ => Found::Wait,
                }
            }
            None if state.gone => Found::Gone,
            None if state.ended => Found::Ended,
            None => Found::Wait,
        }
    }

    /// Counts as waiting until the guard is dropped: for records that are published, or that have come to disk. What came
    /// before is not reported: look for it after this.
    pub fn waiting(self: &Arc<Self>, durable: bool) -> Waiting {
        let bell = self.bell(durable);
        bell.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting { tick: bell.tick.subscribe(), live: self.clone(), durable }
    }

    fn bell(&self, durable: bool) -> &Bell {
        if durable { &self.stored } else { &self.published }
    }

    /// Counts a reader, until the guard is dropped.
    pub fn reading(self: &Arc<Self>) -> Reading {
        self.readers.send_modify(|r| r.now += 1);
        let place = Arc::new(AtomicU64::new(u64::MAX));
        let mut places = self.places.lock();
        places.retain(|place| place.strong_count() > 0);
        places.push(Arc::downgrade(&place));
        drop(places);
        Reading { live: self.clone(), place }
    }

    /// How many readers have begun, and how many records the slowest is behind.
    fn behind(&self) -> (u64, u64) {
        let last = self.state.lock().records.back().map_or(0, |record| record.seq);
        let places = self.places.lock();
        let places = places.iter().filter_map(Weak::upgrade).map(|place| place.load(Ordering::Relaxed));
        places
            .filter(|at| *at != u64::MAX)
            .fold((0, 0), |(readers, behind), at| (readers + 1, behind.max(last.saturating_sub(at))))
    }

    /// Whether this is the first call: one watch over the readers is enough.
    pub fn is_first_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::Relaxed)
    }

    /// A run that goes on after a crash: whoever read it has been cut off.
    pub fn cut_off(&self) {
        self.readers.send_modify(|r| r.left = r.left.or(Some(Instant::now())));
    }

    /// Who reads, as it changes.
    pub fn readers(&self) -> watch::Receiver<Readers> {
        self.readers.subscribe()
    }
}

/// Wakes readers that wait.
struct Bell {
    tick: watch::Sender<u64>,
    /// How many readers wait for the tick. One that has enough at hand costs the writer nothing.
    waiting: AtomicUsize,
}

impl Default for Bell {
    fn default() -> Self {
        Self { tick: watch::Sender::new(0), waiting: AtomicUsize::new(0) }
    }
}

impl Bell {
    fn ring(&self) {
        // Without a reader that waits this is a load and no more. One that begins to wait now looks once more before it does.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.tick.send_modify(|t| *t = t.wrapping_add(1));
        }
    }
}

/// A reader that waits for more.
pub(crate) struct Waiting {
    live: Arc<Live>,
    durable: bool,
    tick: watch::Receiver<u64>,
}

impl Waiting {
    /// Waits until something came.
    pub async fn news(&mut self) {
        // The sender is the live end's own, which is held here.
        let _ = self.tick.changed().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.live.bell(self.durable).waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A reader that is there.
pub(crate) struct Reading {
    live: Arc<Live>,
    /// The record it has seen last; all ones before it has begun.
    place: Arc<AtomicU64>,
}

impl Reading {
    /// The reader stands there now.
    pub fn at(&self, seq: u64) {
        self.place.store(seq, Ordering::Relaxed);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.live.readers.send_modify(|r| {
            r.now -= 1;
            r.left = Some(Instant::now());
        });
    }
}

/// The live ends of the runs that this server drives or reads. What is on disk is the truth; this is a cache of its end.
#[derive(Default)]
pub(crate) struct Logs {
    runs: Mutex<HashMap<RunId, Weak<Live>>>,
}

impl Logs {
    /// The live end of a run's log, made where there is none. It lasts as long as anybody holds it.
    pub fn open(&self, run: RunId) -> Arc<Live> {
        let mut runs = self.runs.lock();
        if let Some(live) = runs.get(&run).and_then(Weak::upgrade) {
            return live;
        }
        let live = Live::new(run);
        runs.insert(run, Arc::downgrade(&live));
        live
    }

    /// The live end of a run's log, where there is one.
    pub fn get(&self, run: RunId) -> Option<Arc<Live>> {
        self.runs.lock().get(&run).and_then(Weak::upgrade)
    }

    /// How many readers there are of runs that are not over, and how many records the slowest of them is behind.
    pub fn readers(&self) -> (u64, u64) {
        let live: Vec<_> = self.runs.lock().values().filter_map(Weak::upgrade).collect();
        live.iter().map(|live| live.behind()).fold((0, 0), |all, one| (all.0 + one.0, all.1.max(one.1)))
    }

    /// The run is over.
    pub fn close(&self, run: RunId) {
        self.runs.lock().remove(&run);
    }
}
