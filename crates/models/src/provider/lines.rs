//! The frames of a streamed answer: the data of server-sent events, or lines of JSON.

use bytes::{Bytes, BytesMut};
use sseer::parser::{RawEventLineOwned, parse_line_from_buffer};

/// Splits the bytes of an answer into frames.
#[derive(Debug)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// Up to here the buffer has no line break.
    scanned: usize,
    /// The data lines of an event that has not ended.
    event: Option<BytesMut>,
    is_sse: bool,
}

impl Lines {
    /// Frames of server-sent events, or of lines.
    pub fn new(is_sse: bool) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, event: None, is_sse }
    }

    /// Takes in bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes of frames that have not ended.
    pub fn pending(&self) -> usize {
        self.buffer.len() + self.event.as_ref().map_or(0, BytesMut::len)
    }

    /// The next whole frame. Comments and events without data are left out.
    pub fn next(&mut self) -> Option<Bytes> {
        if self.is_sse { self.next_event() } else { self.next_line() }
    }

    /// The last frame of an answer that ended without a line break.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.push(if self.is_sse { b"\n\n".as_slice() } else { b"\n" });
        self.next()
    }

    fn next_event(&mut self) -> Option<Bytes> {
        while let Some(line) = parse_line_from_buffer(&mut self.buffer, &mut self.scanned) {
            match line {
                RawEventLineOwned::Field { field_name, field_value } if &*field_name == b"data" => {
                    let value = field_value.unwrap_or_default();
                    match &mut self.event {
                        Some(event) => {
                            event.extend_from_slice(b"\n");
                            event.extend_from_slice(&value);
                        }
                        None => self.event = Some(value.into()),
                    }
                }
                RawEventLineOwned::Empty => {
                    if let Some(event) = self.event.take().filter(|event| !event.is_empty()) {
                        return Some(event.freeze());
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.scanned + at + 1).freeze();
            self.scanned = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(is_sse: bool, text: &str, cut: usize) -> Vec<String> {
        let mut lines = Lines::new(is_sse);
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(cut) {
            lines.push(piece);
            while let Some(frame) = lines.next() {
                found.push(String::from_utf8(frame.to_vec()).unwrap().trim().to_owned());
            }
        }
        found.extend(lines.rest().map(|frame| String::from_utf8(frame.to_vec()).unwrap().trim().to_owned()));
        assert_eq!(lines.pending(), 0);
        found
    }

    #[test]
    fn events_are_whole_wherever_they_are_cut() {
        let text = ": hello\n\nevent: x\ndata: {\"a\":\ndata: 1}\n\ndata:b\r\n\r\nid: 7\n\ndata: last";
        for cut in 1..text.len() {
            assert_eq!(frames(true, text, cut), ["{\"a\":\n1}", "b", "last"], "{cut}");
        }
    }

    #[test]
    fn lines_are_whole_wherever_they_are_cut() {
        for cut in 1..12 {
            assert_eq!(frames(false, "{\"a\":1}\n\n{}\r\n{\"b\":2}", cut), ["{\"a\":1}", "{}", "{\"b\":2}"], "{cut}");
        }
    }
}
