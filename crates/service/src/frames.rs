//! The body of a streaming answer: every message that is at hand goes into one frame.
//!
//! tonic's own encoder passes each message through a buffer that checks and copies more than once. At hundreds of thousands
//! of tokens a second that costs more than the message itself. Answers that are compressed still go through it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use futures_core::Stream;
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

use crate::stream::Parts;

/// How many bytes are gathered before they are sent on.
const FRAME_BYTES: usize = 32 << 10;
/// The room that a frame begins with: a token and its envelope.
const FIRST_BYTES: usize = 256;
/// Before each message: whether it is compressed, and its length in four bytes.
const HEADER: usize = 5;

/// The messages of a stream as frames, ended by trailers.
pub(crate) struct Frames {
    parts: Option<Parts>,
    /// The status that ends the stream, once it is known.
    end: Option<Status>,
    /// The size of the last frame: the room of the next one.
    room: usize,
}

impl Frames {
    pub fn new(parts: Parts) -> Self {
        Self { parts: Some(parts), end: None, room: FIRST_BYTES }
    }

    /// Appends the messages at hand, up to a full frame.
    fn gather(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) {
        while let Some(parts) = &mut self.parts
            && buf.len() < FRAME_BYTES
        {
            let part = match Pin::new(parts).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(part))) => part,
                Poll::Ready(Some(Err(status))) => return self.finish(status),
                Poll::Ready(None) => return self.finish(Status::ok("")),
            };
            if buf.capacity() == 0 {
                buf.reserve(self.room);
            }
            let start = buf.len();
            buf.put_slice(&[0; HEADER]);
            part.encode(buf);
            match u32::try_from(buf.len() - start - HEADER) {
                Ok(length) => buf[start + 1..start + HEADER].copy_from_slice(&length.to_be_bytes()),
                Err(_) => {
                    buf.truncate(start);
                    return self.finish(Status::resource_exhausted("a part is larger than 4 GiB"));
                }
            }
        }
    }

    fn finish(&mut self, status: Status) {
        self.end = Some(status);
        // What the stream holds is released now, not when its connection has sent the last bytes.
        self.parts = None;
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut buf = Vec::new();
        this.gather(cx, &mut buf);
        if !buf.is_empty() {
            this.room = buf.len().clamp(FIRST_BYTES, FRAME_BYTES + FIRST_BYTES);
            return Poll::Ready(Some(Ok(Frame::data(buf.into()))));
        }
        if let Some(status) = this.end.take() {
            let mut trailers = HeaderMap::with_capacity(4);
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        if this.parts.is_some() { Poll::Pending } else { Poll::Ready(None) }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none() && self.end.is_none()
    }
}
