//! Messages that stream side by side, shown one after the other.

use std::io;

use indexmap::IndexMap;
use runloom::v1::{MessageChunk, MessageRole, StreamRunResponse, content_block::Block};

use crate::{screen::Screen, style::DIM};

/// The messages of a run as they come. The first that speaks is heard at once; others wait until it is done.
#[derive(Default)]
pub struct Voices {
    /// The messages that have not been shown to their end, in the order in which they began.
    open: IndexMap<String, Voice>,
    /// The one of them that is heard now.
    speaking: Option<String>,
    /// Whether anything was said at all.
    has_spoken: bool,
}

/// A message on its way.
#[derive(Default)]
struct Voice {
    node: String,
    role: MessageRole,
    task_id: String,
    task_attempt: u32,
    /// What it has said and nobody has heard.
    text: String,
    is_done: bool,
}

impl Voices {
    /// Whether anything was said.
    pub fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Takes a chunk in, and shows what can be. `among` says that other nodes run beside it.
    pub fn chunk(
        &mut self,
        part: &StreamRunResponse,
        chunk: &MessageChunk,
        among: bool,
        screen: &mut Screen,
    ) -> io::Result<()> {
        // What an earlier try of the task said is void.
        self.end_where(|v| v.task_id == part.task_id && v.task_attempt < part.task_attempt);
        let voice = self.open.entry(chunk.message_id.clone()).or_default();
        if !chunk.node.is_empty() {
            voice.node.clone_from(&chunk.node);
        }
        if chunk.role() != MessageRole::Unspecified {
            voice.role = chunk.role();
        }
        voice.task_id.clone_from(&part.task_id);
        voice.task_attempt = part.task_attempt;
        voice.is_done |= chunk.last;
        for block in &chunk.content {
            if let Some(Block::Text(text)) = &block.block {
                voice.text.push_str(text);
            }
        }
        self.hear(among, screen)
    }

    /// A task has ended: whatever it said is whole, or never will be.
    pub fn task_ended(&mut self, task_id: &str, screen: &mut Screen) -> io::Result<()> {
        self.end_where(|v| v.task_id == task_id);
        self.hear(true, screen)
    }

    /// Nothing more will come.
    pub fn end(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.end_where(|_| true);
        self.hear(true, screen)
    }

    fn end_where(&mut self, of: impl Fn(&Voice) -> bool) {
        self.open.values_mut().filter(|v| of(v)).for_each(|v| v.is_done = true);
    }

    /// Shows what the one that speaks says, and once it is done, the next.
    fn hear(&mut self, among: bool, screen: &mut Screen) -> io::Result<()> {
        loop {
            if let Some(voice) = self.speaking.as_ref().and_then(|id| self.open.get_mut(id)) {
                screen.say(&std::mem::take(&mut voice.text))?;
                if !voice.is_done {
                    return Ok(());
                }
                screen.end_line()?;
            }
            if let Some(id) = self.speaking.take() {
                self.open.shift_remove(&id);
            }
            self.open.retain(|_, voice| !voice.is_done || voice.is_heard());
            let Some((id, next)) = self.open.iter().find(|(_, voice)| voice.is_heard()) else { return Ok(()) };
            if among && !next.node.is_empty() {
                screen.note(&format!("{DIM}{}:{DIM:#}", next.node))?;
            }
            self.speaking = Some(id.clone());
            self.has_spoken = true;
        }
    }
}

impl Voice {
    /// Whether it has something to say to a person: models do; what a node writes of a person or a tool was seen already.
    fn is_heard(&self) -> bool {
        self.role == MessageRole::Ai && !self.text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::ContentBlock;

    use super::*;

    fn said(voices: &mut Voices, screen: &mut Screen, id: &str, text: &str, last: bool) {
        let part = StreamRunResponse { task_id: format!("task of {id}"), task_attempt: 1, ..Default::default() };
        let block = ContentBlock { index: 0, block: Some(Block::Text(text.into())) };
        let chunk = MessageChunk {
            message_id: id.into(),
            role: MessageRole::Ai.into(),
            content: vec![block],
            last,
            ..Default::default()
        };
        voices.chunk(&part, &chunk, false, screen).unwrap();
    }

    #[test]
    fn voices_take_turns() {
        let (mut screen, out, _) = Screen::on_paper(false);
        let mut voices = Voices::default();
        said(&mut voices, &mut screen, "a", "", false);
        said(&mut voices, &mut screen, "b", "one ", false);
        assert_eq!(out.text(), "one ");
        said(&mut voices, &mut screen, "a", "three", false);
        said(&mut voices, &mut screen, "b", "two", true);
        assert_eq!(out.text(), "one two\nthree");
        said(&mut voices, &mut screen, "a", "", true);
        assert_eq!(out.text(), "one two\nthree\n");
        assert!(voices.open.is_empty() && voices.has_spoken());
    }

    #[test]
    fn what_breaks_off_ends_its_line() {
        let (mut screen, out, _) = Screen::on_paper(false);
        let mut voices = Voices::default();
        said(&mut voices, &mut screen, "a", "I am", false);
        voices.task_ended("task of a", &mut screen).unwrap();
        said(&mut voices, &mut screen, "b", "next", false);
        voices.end(&mut screen).unwrap();
        assert_eq!(out.text(), "I am\nnext\n");
    }
}
