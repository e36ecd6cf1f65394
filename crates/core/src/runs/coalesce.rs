//! Pieces of messages put together, where a run asks for it.

use std::{sync::Arc, time::Duration};

use runloom_engine::stream::{BlockPlaces, Chunk, Part, Payload};

use super::request::Recording;

/// Puts pieces of messages together, where a run asks for it.
pub(super) struct Coalesce {
    most: u32,
    delay: Option<Duration>,
    /// What is held: a piece for mode `messages`, one for mode `events`, and how many pieces are in them.
    held: Vec<(Part, u32)>,
    due: Option<tokio::time::Instant>,
}

impl Coalesce {
    pub fn new(recording: &Recording) -> Self {
        let is_on = recording.coalesce_chunks > 1 || recording.coalesce_ms > 0;
        let most = match recording.coalesce_chunks {
            0 => u32::MAX,
            n => n,
        };
        let delay =
            is_on.then(|| Duration::from_millis(if recording.coalesce_ms == 0 { 50 } else { recording.coalesce_ms }));
        Self { most, delay, held: Vec::new(), due: None }
    }

    /// Whether pieces are put together at all. Where not, parts need not go through here.
    pub fn is_on(&self) -> bool {
        self.delay.is_some()
    }

    /// When what is held has to go.
    pub fn due(&self) -> Option<tokio::time::Instant> {
        self.due
    }

    /// Takes a part; gives those that are to be told now, in order.
    pub fn add(&mut self, part: Part) -> Vec<Part> {
        let Some(delay) = self.delay else { return vec![part] };
        let Some(is_last) = piece(&part).map(|c| c.is_last()) else {
            let mut out = self.take();
            out.push(part);
            return out;
        };
        let mut out = Vec::new();
        match self.held.iter_mut().find(|(held, _)| same_message(held, &part)) {
            Some((held, count)) => {
                append(held, &part);
                *count += 1;
            }
            None => {
                if self.held.iter().any(|(held, _)| is_same_mode(held, &part)) {
                    out = self.take();
                }
                self.held.push((part, 1));
                self.due.get_or_insert_with(|| tokio::time::Instant::now() + delay);
            }
        }
        let is_full = self.held.iter().all(|(_, count)| *count >= self.most);
        let all_last = self.held.iter().all(|(held, _)| piece(held).is_some_and(|c| c.is_last()));
        if is_full || (is_last && all_last) {
            out.extend(self.take());
        }
        out
    }

    pub fn take(&mut self) -> Vec<Part> {
        self.due = None;
        self.held.drain(..).map(|(part, _)| part).collect()
    }
}

/// The piece of a message that a part is.
fn piece(part: &Part) -> Option<&Arc<Chunk>> {
    let chunk = match &part.payload {
        Payload::Message(m) => &m.chunk,
        Payload::Event(e) => e.data.chunk.as_ref()?,
        _ => return None,
    };
    matches!(**chunk, Chunk::Delta { .. }).then_some(chunk)
}

fn is_same_mode(a: &Part, b: &Part) -> bool {
    std::mem::discriminant(&a.payload) == std::mem::discriminant(&b.payload)
}

fn same_message(held: &Part, new: &Part) -> bool {
    let id = |p: &Part| match piece(p).map(|c| (**c).clone()) {
        Some(Chunk::Delta { id, .. }) => Some(id),
        _ => None,
    };
    is_same_mode(held, new) && id(held) == id(new) && piece(held).zip(piece(new)).is_some_and(|(a, b)| can_join(a, b))
}

/// Whether the pieces are of the same content blocks: a chunk names one block of text, one of reasoning, and the first of its
/// whole blocks.
fn can_join(a: &Chunk, b: &Chunk) -> bool {
    match (a, b) {
        (
            Chunk::Delta { text, reasoning, blocks, at, .. },
            Chunk::Delta { text: t2, reasoning: r2, blocks: b2, at: at2, .. },
        ) => {
            (text.is_empty() || t2.is_empty() || at.text.index == at2.text.index)
                && (reasoning.is_empty() || r2.is_empty() || at.reasoning.index == at2.reasoning.index)
                && (blocks.is_empty() || b2.is_empty())
        }
        _ => false,
    }
}

fn append(held: &mut Part, new: &Part) {
    let Some(merged) = piece(held).zip(piece(new)).and_then(|(a, b)| join(a, b)) else { return };
    match &mut held.payload {
        Payload::Message(m) => m.chunk = Arc::new(merged),
        Payload::Event(e) => e.data.chunk = Some(Arc::new(merged)),
        _ => {}
    }
}

fn join(a: &Chunk, b: &Chunk) -> Option<Chunk> {
    let (
        Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, at, usage, response_metadata, .. },
        Chunk::Delta {
            text: t2,
            reasoning: r2,
            blocks: b2,
            tool_calls: c2,
            at: at2,
            usage: u2,
            response_metadata: m2,
            last,
            ..
        },
    ) = (a, b)
    else {
        return None;
    };
    let mut usage = *usage;
    if let Some(more) = u2 {
        *usage.get_or_insert_default() += *more;
    }
    Some(Chunk::Delta {
        id: id.clone(),
        name: name.clone(),
        text: format!("{text}{t2}").into(),
        reasoning: format!("{reasoning}{r2}").into(),
        blocks: blocks.iter().chain(b2).cloned().collect(),
        tool_calls: tool_calls.iter().chain(c2).cloned().collect(),
        at: BlockPlaces {
            is_known: at.is_known && at2.is_known,
            text: if text.is_empty() { at2.text } else { at.text },
            reasoning: if reasoning.is_empty() { at2.reasoning } else { at.reasoning },
            whole: if blocks.is_empty() { at2.whole } else { at.whole },
            calls: at.calls.iter().chain(&at2.calls).copied().collect(),
            finished: at.finished.iter().chain(&at2.finished).copied().collect(),
        },
        usage,
        response_metadata: m2.clone().or_else(|| response_metadata.clone()),
        last: *last,
    })
}
