//! Answers, and what they are made of.

use std::time::Duration;

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers beside those that frame the body.
    pub headers: Vec<(String, String)>,
    /// The body, piece by piece.
    pub pieces: Vec<Piece>,
}

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes that leave together.
    Bytes(Vec<u8>),
    /// Waits so long.
    Wait(Duration),
    /// Waits until the test opens the gate.
    Gate,
    /// Says nothing more, and keeps the connection.
    Stall,
    /// Says this again and again.
    Flood(Vec<u8>),
    /// Closes the connection, in the middle of the body.
    HangUp,
}

impl Answer {
    /// A stream of server-sent events, without any.
    pub fn events() -> Self {
        Self { status: 200, headers: vec![("content-type".into(), "text/event-stream".into())], pieces: Vec::new() }
    }

    /// An answer of JSON.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self { status, headers, pieces: vec![Piece::Bytes(body.to_string().into_bytes())] }
    }

    /// Closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self { status: 0, headers: Vec::new(), pieces: Vec::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a piece more.
    #[must_use]
    pub fn piece(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }

    /// With bytes more, which leave together.
    #[must_use]
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.piece(Piece::Bytes(bytes.into()))
    }

    /// With an event more.
    #[must_use]
    pub fn data(self, data: impl std::fmt::Display) -> Self {
        self.bytes(format!("data: {data}\n\n"))
    }

    /// All its bytes put together and cut anew, this many at a time. For answers of bytes alone.
    #[must_use]
    pub fn cut(mut self, size: usize) -> Self {
        let mut all = Vec::new();
        self.pieces.retain(|piece| match piece {
            Piece::Bytes(bytes) => {
                all.extend_from_slice(bytes);
                false
            }
            _ => true,
        });
        let cut = all.chunks(size.max(1)).map(|chunk| Piece::Bytes(chunk.to_vec()));
        self.pieces.splice(0..0, cut);
        self
    }

    /// With a wait before each piece.
    #[must_use]
    pub fn slowly(mut self, wait: Duration) -> Self {
        self.pieces = self.pieces.into_iter().flat_map(|piece| [Piece::Wait(wait), piece]).collect();
        self
    }
}
