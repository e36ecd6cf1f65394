//! The content blocks of a streamed message: which block each piece starts, extends or finishes.
//!
//! A message is a sequence of blocks, numbered from 0 in the order in which they start: text, reasoning, tool calls, and whole
//! blocks (images, audio, files, others). Readers of providers say where a block begins; otherwise a piece extends the open
//! block of its kind. A block of text or reasoning ends where another block starts; a tool call, whose pieces may alternate
//! with those of other calls, ends with the message.

use crate::model::{Delta, ToolCallDelta};

/// A block that a piece belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockPlace {
    /// The number of the block in its message.
    pub index: u32,
    /// Whether the block starts here.
    pub starts: bool,
}

/// The blocks that a chunk starts, extends and finishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockPlaces {
    /// Whether the blocks are known. They are not in logs written by earlier versions.
    pub is_known: bool,
    /// The block that the chunk's text extends.
    pub text: BlockPlace,
    /// The block that its reasoning extends.
    pub reasoning: BlockPlace,
    /// The first of its whole blocks; the others follow. Each starts and finishes in this chunk.
    pub whole: u32,
    /// The blocks of its pieces of tool calls, in their order.
    pub calls: Vec<BlockPlace>,
    /// The blocks that are complete after this chunk, ascending; whole blocks are not repeated here.
    pub finished: Vec<u32>,
}

impl BlockPlaces {
    /// Text that extends a block, and nothing else: what nearly all chunks are.
    pub fn extends(index: u32) -> Self {
        Self { is_known: true, text: BlockPlace { index, starts: false }, ..Self::default() }
    }

    /// Whether the chunk starts and finishes no block.
    pub fn is_continuation(&self) -> bool {
        !self.text.starts && self.finished.is_empty()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Call(u32),
}

/// Numbers the blocks of one message.
#[derive(Default)]
pub struct BlockTracker {
    next: u32,
    open: Vec<(Kind, u32)>,
}

impl BlockTracker {
    /// The blocks of the next piece of the message.
    pub fn place(&mut self, delta: &Delta) -> BlockPlaces {
        let mut places = BlockPlaces { is_known: true, ..BlockPlaces::default() };
        if delta.new_block {
            self.finish(&mut places, |kind| matches!(kind, Kind::Text | Kind::Reasoning));
        }
        if !delta.reasoning.is_empty() {
            places.reasoning = self.extend(Kind::Reasoning, &mut places);
        }
        if !delta.text.is_empty() {
            places.text = self.extend(Kind::Text, &mut places);
        }
        if !delta.blocks.is_empty() {
            self.finish(&mut places, |kind| matches!(kind, Kind::Text | Kind::Reasoning));
            places.whole = self.next;
            self.next += u32::try_from(delta.blocks.len()).unwrap_or(u32::MAX);
        }
        for ToolCallDelta { index, .. } in &delta.tool_calls {
            let place = self.extend(Kind::Call(*index), &mut places);
            places.calls.push(place);
        }
        if delta.last {
            self.finish(&mut places, |_| true);
        }
        places.finished.sort_unstable();
        places
    }

    fn extend(&mut self, kind: Kind, places: &mut BlockPlaces) -> BlockPlace {
        if let Some((_, index)) = self.open.iter().find(|(open, _)| *open == kind) {
            return BlockPlace { index: *index, starts: false };
        }
        self.finish(places, |open| matches!(open, Kind::Text | Kind::Reasoning));
        let index = self.next;
        self.next += 1;
        self.open.push((kind, index));
        BlockPlace { index, starts: true }
    }

    fn finish(&mut self, places: &mut BlockPlaces, is_over: impl Fn(Kind) -> bool) {
        self.open.retain(|(kind, index)| {
            let is_over = is_over(*kind);
            if is_over {
                places.finished.push(*index);
            }
            !is_over
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasoning(text: &str) -> Delta {
        Delta { reasoning: text.into(), ..Delta::default() }
    }

    fn call(index: u32) -> Delta {
        Delta { tool_calls: vec![ToolCallDelta { index, ..ToolCallDelta::default() }], ..Delta::default() }
    }

    fn place(index: u32, starts: bool) -> BlockPlace {
        BlockPlace { index, starts }
    }

    #[test]
    fn blocks_are_numbered_as_they_start_and_end_where_the_next_one_starts() {
        let mut tracker = BlockTracker::default();
        let first = tracker.place(&reasoning("hm"));
        assert_eq!((first.reasoning, &first.finished[..]), (place(0, true), &[][..]));
        assert_eq!(tracker.place(&reasoning("m")).reasoning, place(0, false));
        let text = tracker.place(&Delta::text("Hel"));
        assert_eq!((text.text, &text.finished[..]), (place(1, true), &[0][..]));
        assert_eq!(tracker.place(&Delta::text("lo")), BlockPlaces::extends(1));
        let again = tracker.place(&Delta { new_block: true, ..Delta::text("A second block") });
        assert_eq!((again.text, &again.finished[..]), (place(2, true), &[1][..]));
        let image = tracker.place(&Delta { blocks: vec![crate::value!({"type": "image"})], ..Delta::default() });
        assert_eq!((image.whole, &image.finished[..]), (3, &[2][..]));
        // Pieces of two calls alternate.
        assert_eq!(tracker.place(&call(0)).calls, [place(4, true)]);
        assert_eq!(tracker.place(&call(1)).calls, [place(5, true)]);
        assert_eq!(tracker.place(&call(0)).calls, [place(4, false)]);
        assert_eq!(tracker.place(&Delta::end()).finished, [4, 5]);
    }

    #[test]
    fn a_message_of_one_piece_starts_and_finishes_its_block() {
        let whole = BlockTracker::default().place(&Delta { last: true, ..Delta::text("all") });
        assert_eq!((whole.text, &whole.finished[..]), (place(0, true), &[0][..]));
    }
}
