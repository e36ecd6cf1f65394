//! Chunks that carry text alone, as nearly all do, encoded without a generated message in between.

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use runloom_engine::stream::Chunk;

use super::put_str;

/// `StreamRunResponse.message_chunk`.
const MESSAGE_CHUNK: u32 = 24;
/// Fields of `MessageChunk`.
const MESSAGE_ID: u32 = 1;
const CONTENT: u32 = 8;
const LAST: u32 = 11;
/// Fields of `ContentBlock`. An index of 0 is not encoded.
const INDEX: u32 = 1;
const TEXT: u32 = 2;

/// Whether a chunk carries text alone. One that a stream sends first of its message says more than that.
pub(super) fn is_token(chunk: &Chunk) -> bool {
    matches!(chunk, Chunk::Delta { id, text, reasoning, blocks, tool_calls, at, usage: None, response_metadata: None, .. }
        if at.is_continuation() && !id.is_empty() && !text.is_empty() && reasoning.is_empty() && blocks.is_empty() && tool_calls.is_empty())
}

fn fields(chunk: &Chunk) -> (&str, &str, u32, bool) {
    match chunk {
        Chunk::Delta { id, text, at, last, .. } => (id, text, at.text.index, *last),
        Chunk::Whole(_) => ("", "", 0, false),
    }
}

fn block_len(text: &str, index: u32) -> usize {
    str_len(text) + if index == 0 { 0 } else { 1 + encoded_len_varint(index.into()) }
}

/// The length of a string field with a tag of one byte.
fn str_len(text: &str) -> usize {
    1 + encoded_len_varint(text.len() as u64) + text.len()
}

fn body_len(chunk: &Chunk) -> usize {
    let (id, text, index, last) = fields(chunk);
    let block = block_len(text, index);
    str_len(id) + 1 + encoded_len_varint(block as u64) + block + if last { 2 } else { 0 }
}

/// The length of the payload with its tag, which has two bytes.
pub(super) fn encoded_len(chunk: &Chunk) -> usize {
    let body = body_len(chunk);
    2 + encoded_len_varint(body as u64) + body
}

/// Encodes the payload with its tag.
pub(super) fn encode(chunk: &Chunk, buf: &mut impl BufMut) {
    let (id, text, index, last) = fields(chunk);
    encode_key(MESSAGE_CHUNK, WireType::LengthDelimited, buf);
    encode_varint(body_len(chunk) as u64, buf);
    put_str(MESSAGE_ID, id, buf);
    encode_key(CONTENT, WireType::LengthDelimited, buf);
    encode_varint(block_len(text, index) as u64, buf);
    if index != 0 {
        prost::encoding::uint32::encode(INDEX, &index, buf);
    }
    put_str(TEXT, text, buf);
    if last {
        prost::encoding::bool::encode(LAST, &last, buf);
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::{JsonEncoding, stream_run_response::Payload};
    use runloom_engine::stream::BlockPlaces;

    use super::*;
    use crate::convert::message;

    #[test]
    fn a_token_is_encoded_as_the_generated_message_would_be() {
        for (text, last, index) in
            [("a", false, 0), ("b", true, 1), (&*"long \u{e9}".repeat(4000), false, 0), ("c", false, 300)]
        {
            let chunk = Chunk::Delta {
                id: "lc_run--1".into(),
                name: None,
                text: text.into(),
                reasoning: "".into(),
                blocks: vec![],
                tool_calls: vec![],
                at: BlockPlaces::extends(index),
                usage: None,
                response_metadata: None,
                last,
            };
            assert!(is_token(&chunk));
            let generated = message::chunk(&chunk, false, 0, Some(JsonEncoding::Text)).unwrap();
            let (mut expected, mut encoded) = (Vec::new(), Vec::new());
            Payload::MessageChunk(generated).encode(&mut expected);
            encode(&chunk, &mut encoded);
            assert_eq!(encoded, expected);
            assert_eq!(encoded.len(), encoded_len(&chunk));
        }
    }
}
