//! What the library does not pass on, read from the wire as it comes: calls in true pieces, images, names, usage.

use std::sync::Arc;

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use parking_lot::Mutex;

use super::{ProviderKind, response::Answer};

/// Sees each frame of an answer before the library has read it.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    kind: ProviderKind,
    seen: Arc<Mutex<Seen>>,
}

/// What has been seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How many frames, those without content too.
    pub count: u64,
    /// Their bytes.
    pub bytes: usize,
    /// What they say.
    pub answer: Answer,
}

impl Frames {
    pub fn new(kind: ProviderKind) -> Self {
        Self { kind, seen: Arc::default() }
    }

    pub fn seen(&self) -> parking_lot::MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut seen = self.seen.lock();
        seen.count += 1;
        // An empty one is not nothing.
        seen.bytes += frame.data.len() + 16;
        seen.answer.read(self.kind, frame.data);
    }
}
