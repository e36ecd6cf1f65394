//! Messages that stream at the same time, printed one after the other.

use std::io;

use indexmap::IndexMap;
use runloom::v1::{MessageChunk, MessageRole, StreamRunResponse, content_block::Block};

use crate::{screen::Screen, style::DIM};

/// The messages of a run. The first one with text is printed as it arrives; the others are buffered until it is complete.
#[derive(Default)]
pub struct Messages {
    /// The messages that are not completely printed, in the order in which they started.
    /// By id and attempt: a repeated attempt of a task says its messages under the same ids.
    open: IndexMap<(String, u32), Message>,
    /// The message that is being printed.
    current: Option<(String, u32)>,
    /// Whether any text was printed.
    has_output: bool,
}

/// A message that is not completely printed.
#[derive(Default)]
struct Message {
    node: String,
    role: MessageRole,
    task_id: String,
    task_attempt: u32,
    /// Text that was received and not printed.
    text: String,
    is_done: bool,
}

impl Messages {
    /// Whether any text was printed.
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// Adds a chunk, and prints what can be printed. `name_nodes`: print the node before its message, because several nodes are running.
    pub fn chunk(
        &mut self,
        part: &StreamRunResponse,
        chunk: &MessageChunk,
        name_nodes: bool,
        screen: &mut Screen,
    ) -> io::Result<()> {
        // The chunks of an earlier attempt of the task are obsolete.
        self.complete_where(|v| v.task_id == part.task_id && v.task_attempt < part.task_attempt);
        let message = self.open.entry((chunk.message_id.clone(), part.task_attempt)).or_default();
        if !chunk.node.is_empty() {
            message.node.clone_from(&chunk.node);
        }
        if chunk.role() != MessageRole::Unspecified {
            message.role = chunk.role();
        }
        message.task_id.clone_from(&part.task_id);
        message.task_attempt = part.task_attempt;
        message.is_done |= chunk.last;
        for block in &chunk.content {
            if let Some(Block::Text(text)) = &block.block {
                message.text.push_str(text);
            }
        }
        self.flush(name_nodes, screen)
    }

    /// Completes the messages of a task that has ended.
    pub fn task_ended(&mut self, task_id: &str, screen: &mut Screen) -> io::Result<()> {
        self.complete_where(|v| v.task_id == task_id);
        self.flush(true, screen)
    }

    /// Completes all messages at the end of the run.
    pub fn end(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.complete_where(|_| true);
        self.flush(true, screen)
    }

    fn complete_where(&mut self, of: impl Fn(&Message) -> bool) {
        self.open.values_mut().filter(|v| of(v)).for_each(|v| v.is_done = true);
    }

    /// Prints the new text of the current message and, when it is complete, goes on to the next one.
    fn flush(&mut self, name_nodes: bool, screen: &mut Screen) -> io::Result<()> {
        loop {
            if let Some(message) = self.current.as_ref().and_then(|id| self.open.get_mut(id)) {
                screen.write(&std::mem::take(&mut message.text))?;
                if !message.is_done {
                    return Ok(());
                }
                screen.end_line()?;
            }
            if let Some(id) = self.current.take() {
                self.open.shift_remove(&id);
            }
            self.open.retain(|_, message| !message.is_done || message.is_visible());
            let Some((id, next)) = self.open.iter().find(|(_, message)| message.is_visible()) else { return Ok(()) };
            if name_nodes && !next.node.is_empty() {
                screen.status(&format!("{DIM}{}:{DIM:#}", next.node))?;
            }
            self.current = Some(id.clone());
            self.has_output = true;
        }
    }
}

impl Message {
    /// Whether the message is printed: it is from a model and has text. Messages of users and tools were shown already.
    fn is_visible(&self) -> bool {
        self.role == MessageRole::Ai && !self.text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::ContentBlock;

    use super::*;

    fn add(messages: &mut Messages, screen: &mut Screen, id: &str, text: &str, last: bool) {
        let part = StreamRunResponse { task_id: format!("task of {id}"), task_attempt: 1, ..Default::default() };
        let block = ContentBlock { block: Some(Block::Text(text.into())), ..ContentBlock::default() };
        let chunk = MessageChunk {
            message_id: id.into(),
            role: MessageRole::Ai.into(),
            content: vec![block],
            last,
            ..Default::default()
        };
        messages.chunk(&part, &chunk, false, screen).unwrap();
    }

    #[test]
    fn voices_take_turns() {
        let (mut screen, out, _) = Screen::in_memory(false);
        let mut messages = Messages::default();
        add(&mut messages, &mut screen, "a", "", false);
        add(&mut messages, &mut screen, "b", "one ", false);
        assert_eq!(out.text(), "one ");
        add(&mut messages, &mut screen, "a", "three", false);
        add(&mut messages, &mut screen, "b", "two", true);
        assert_eq!(out.text(), "one two\nthree");
        add(&mut messages, &mut screen, "a", "", true);
        assert_eq!(out.text(), "one two\nthree\n");
        assert!(messages.open.is_empty() && messages.has_output());
    }

    #[test]
    fn an_incomplete_message_ends_its_line() {
        let (mut screen, out, _) = Screen::in_memory(false);
        let mut messages = Messages::default();
        add(&mut messages, &mut screen, "a", "I am", false);
        messages.task_ended("task of a", &mut screen).unwrap();
        add(&mut messages, &mut screen, "b", "next", false);
        messages.end(&mut screen).unwrap();
        assert_eq!(out.text(), "I am\nnext\n");
    }
}
