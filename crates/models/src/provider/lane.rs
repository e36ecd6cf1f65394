//! Threads on which providers' answers are read.
//!
//! The library reads in a loop for as long as its connection has bytes at hand. Where the connection's own task runs on
//! another thread, it can be filled as fast as it is read, and a flood would keep the loop from ever coming back: no limit,
//! no wait and no cancellation would reach it. So a connection and who reads it share one thread, which runs either the
//! one or the other.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::runtime::{Builder, Handle};

/// How many threads there are: an answer is a few thousand small pieces a second at most.
const COUNT: usize = 4;

/// One of the threads, in turns.
pub(crate) fn pick() -> Result<Handle, String> {
    static LANES: OnceLock<Vec<Handle>> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let lanes = LANES.get_or_init(|| (0..COUNT).filter_map(|_| start().ok()).collect());
    let at = NEXT.fetch_add(1, Ordering::Relaxed).checked_rem(lanes.len());
    at.and_then(|at| lanes.get(at)).cloned().ok_or_else(|| "no thread could be started to read answers".to_owned())
}

fn start() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("runloom-models".to_owned()).spawn(run)?;
    Ok(handle)
}
