//! Cursors: opaque to callers, and good for the run or thread they name only.
//!
//! A cursor is base64 of a version, whose it is, and a number of a run's log. What is the same in all cursors of a run stands
//! in front and fills whole groups of base64, so that it is encoded once.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use runloom_core::{Error, Reason};
use runloom_engine::{RunId, ThreadId};
use uuid::Uuid;

/// The version and the kind of a cursor: a run's own, and a thread's.
const RUN: [u8; 2] = [1, b'r'];
const THREAD: [u8; 2] = [1, b't'];

/// The number in 48 bits: more than a log holds.
const SEQ: usize = 6;
const RUN_LEN: usize = 2 + 16 + SEQ;
const THREAD_LEN: usize = 2 + 16 + 16 + SEQ;

/// A cursor as it is sent: short, and copied about with every part.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    text: [u8; THREAD_LEN.div_ceil(3) * 4],
    len: usize,
}

impl Cursor {
    fn of(raw: &[u8]) -> Self {
        let mut text = [0; THREAD_LEN.div_ceil(3) * 4];
        // The longest of them fits.
        let len = BASE64.encode_slice(raw, &mut text).unwrap_or(0);
        Self { text, len }
    }

    /// How long its text is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Base64 is ASCII.
        std::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cursors of one run.
pub(crate) struct RunCursors {
    start: Cursor,
}

impl RunCursors {
    /// Those of a run.
    pub fn of(run: RunId) -> Self {
        let mut raw = [0; RUN_LEN];
        raw[..2].copy_from_slice(&RUN);
        raw[2..18].copy_from_slice(run.0.as_bytes());
        Self { start: Cursor::of(&raw) }
    }

    /// The cursor after a number.
    pub fn at(&self, seq: u64) -> Cursor {
        let mut cursor = self.start;
        // Eight characters for six bytes, always.
        let tail = cursor.len - SEQ / 3 * 4;
        let _ = BASE64.encode_slice(seq_bytes(seq), &mut cursor.text[tail..]);
        cursor
    }
}

/// The number of a run's cursor; 0 for an empty one, which is the start of the log.
pub(crate) fn run_seq(run: RunId, cursor: &str) -> Result<u64, Error> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let raw: [u8; RUN_LEN] = raw(cursor).filter(|raw: &[u8; RUN_LEN]| raw[..2] == RUN).ok_or_else(|| invalid("run"))?;
    if raw[2..18] != *run.0.as_bytes() {
        return Err(Error::new(Reason::CursorInvalid, "the cursor is of another run").with("run_id", run));
    }
    Ok(seq(&raw))
}

/// Where a reader of a thread stands: after a number of a run's log; before all runs of the thread where there is no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadPlace {
    /// The run.
    pub run: Option<RunId>,
    /// The number.
    pub seq: u64,
}

impl ThreadPlace {
    /// As a cursor of a thread.
    pub fn cursor(self, thread: ThreadId) -> Cursor {
        let mut raw = [0; THREAD_LEN];
        raw[..2].copy_from_slice(&THREAD);
        raw[2..18].copy_from_slice(thread.0.as_bytes());
        raw[18..34].copy_from_slice(self.run.map_or(Uuid::nil(), |run| run.0).as_bytes());
        raw[34..].copy_from_slice(&seq_bytes(self.seq));
        Cursor::of(&raw)
    }

    /// Reads a cursor of a thread.
    pub fn parse(thread: ThreadId, cursor: &str) -> Result<Self, Error> {
        let raw: [u8; THREAD_LEN] =
            raw(cursor).filter(|raw: &[u8; THREAD_LEN]| raw[..2] == THREAD).ok_or_else(|| invalid("thread"))?;
        if raw[2..18] != *thread.0.as_bytes() {
            return Err(Error::new(Reason::CursorInvalid, "the cursor is of another thread").with("thread_id", thread));
        }
        let run = Uuid::from_slice(&raw[18..34]).unwrap_or_default();
        Ok(Self { run: (!run.is_nil()).then_some(RunId(run)), seq: seq(&raw) })
    }
}

fn raw<const N: usize>(cursor: &str) -> Option<[u8; N]> {
    let mut raw = [0; N];
    // A text of another length does not fit, or does not fill.
    let written = BASE64.decode_slice(cursor, &mut raw).ok()?;
    (written == N).then_some(raw)
}

fn seq_bytes(seq: u64) -> [u8; SEQ] {
    let [_, _, bytes @ ..] = seq.min((1 << 48) - 1).to_be_bytes();
    bytes
}

fn seq(raw: &[u8]) -> u64 {
    raw[raw.len() - SEQ..].iter().fold(0, |seq, byte| seq << 8 | u64::from(*byte))
}

fn invalid(what: &str) -> Error {
    Error::new(Reason::CursorInvalid, format!("the cursor is not one that a stream of this {what} gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_for_its_run_only() {
        let (run, other) = (RunId(Uuid::now_v7()), RunId(Uuid::now_v7()));
        for seq in [0, 1, 255, 256, 1 << 40, (1 << 48) - 1] {
            let cursor = RunCursors::of(run).at(seq).to_string();
            assert_eq!(run_seq(run, &cursor).unwrap(), seq);
            assert_eq!(run_seq(other, &cursor).unwrap_err().reason, Reason::CursorInvalid);
        }
        assert_eq!(run_seq(run, "").unwrap(), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        let (run, thread) = (RunId(Uuid::now_v7()), ThreadId(Uuid::now_v7()));
        let mine = RunCursors::of(run).at(7).to_string();
        let of_thread = ThreadPlace { run: Some(run), seq: 7 }.cursor(thread).to_string();
        let long = "A".repeat(1 << 20);
        for cursor in ["x", "é", "1", "!!!!", &mine[1..], &format!("{mine}A"), &of_thread, &long] {
            assert_eq!(run_seq(run, cursor).unwrap_err().reason, Reason::CursorInvalid, "{cursor:.40}");
        }
        for cursor in ["", "x", &mine, &of_thread[2..], &long] {
            assert_eq!(ThreadPlace::parse(thread, cursor).unwrap_err().reason, Reason::CursorInvalid, "{cursor:.40}");
        }
    }

    #[test]
    fn a_place_in_a_thread_reads_back() {
        let thread = ThreadId(Uuid::now_v7());
        for place in [ThreadPlace { run: None, seq: 0 }, ThreadPlace { run: Some(RunId(Uuid::now_v7())), seq: 9 }] {
            let cursor = place.cursor(thread).to_string();
            assert_eq!(ThreadPlace::parse(thread, &cursor).unwrap(), place);
            let other = ThreadPlace::parse(ThreadId(Uuid::now_v7()), &cursor).unwrap_err();
            assert_eq!(other.reason, Reason::CursorInvalid);
        }
    }
}
