//! The parts of a stream, from records of a log: the envelope, and what depends on what the stream has sent before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, encoding as wire};
use runloom::v1::{
    ContentBlockEnd, ContentBlockStart, ErrorReason, JsonEncoding, Omission, Progress, StreamRunResponse,
    stream_run_response::Payload,
};
use runloom_core::{
    Body, Record,
    events::{EventBody, MessageEvent, RecordEvents},
};
use runloom_engine::{
    RunId, TaskId,
    stream::{self, Chunk},
};
use uuid::Uuid;

use crate::{
    convert::{
        checkpoint, event, namespace,
        record::{Before, held_by, is_same_for_all, payload, smallest},
        timestamp,
    },
    cursor::Cursor,
    shared::Shared,
};

/// The field numbers of `StreamRunResponse`'s envelope that are written by hand here.
const SEQ: u32 = 1;
const CURSOR: u32 = 2;
const EMIT_TIME: u32 = 3;
const OMITTED: u32 = 10;

/// How many messages, or events, a stream remembers having begun. Past that they are introduced again.
const REMEMBERED: usize = 4096;

/// A part as it goes onto the wire: a `StreamRunResponse` of which much is encoded already.
pub(crate) struct Part {
    seq: u64,
    cursor: Cursor,
    emit_time: prost_types::Timestamp,
    /// Run, attempt, namespace, step and task, encoded: the same for many parts in a row.
    place: Bytes,
    omitted: Option<Box<Omission>>,
    payload: Ready,
}

/// A payload that is to be encoded, or is.
enum Ready {
    /// A token: a chunk that [`is_token`] accepts. It is encoded straight from the record.
    Token(Arc<Chunk>),
    Message(Box<Payload>),
    Bytes(Bytes),
}

impl Part {
    /// Adds the numbers of the record's events, and which content blocks begin and end with it.
    pub fn add_events(&mut self, of: &RecordEvents) {
        let mut head = StreamRunResponse { thread_seq: of.last(), ..Default::default() };
        for event in &of.events {
            let EventBody::Message { id, part } = &event.body else { continue };
            let message_id = id.to_string();
            match part {
                MessageEvent::BlockStart { index, content } => {
                    let text = |key: &str| content.get_str(key).unwrap_or_default().to_owned();
                    let (kind, is_call) = (text("type"), content.get_str("type") == Some("tool_call_chunk"));
                    let (tool_call_id, tool_name) =
                        if is_call { (text("id"), text("name")) } else { Default::default() };
                    let index = u32::try_from(*index).unwrap_or(u32::MAX);
                    head.block_starts.push(ContentBlockStart {
                        message_id,
                        index,
                        r#type: kind,
                        tool_call_id,
                        tool_name,
                    });
                }
                MessageEvent::BlockFinish { index, content } => {
                    let invalid_tool_call = content.get_str("type") == Some("invalid_tool_call");
                    let index = u32::try_from(*index).unwrap_or(u32::MAX);
                    head.block_ends.push(ContentBlockEnd { message_id, index, invalid_tool_call });
                }
                _ => {}
            }
        }
        let mut place = BytesMut::from(&*self.place);
        head.encode(&mut place).ok();
        self.place = place.freeze();
    }

    /// How long it is encoded.
    pub fn encoded_len(&self) -> usize {
        let cursor = self.cursor.len();
        let omitted = self.omitted.as_ref().map_or(0, |omitted| wire::message::encoded_len(OMITTED, &**omitted));
        let payload = match &self.payload {
            Ready::Token(chunk) => token::encoded_len(chunk),
            Ready::Message(payload) => payload.encoded_len(),
            Ready::Bytes(bytes) => bytes.len(),
        };
        let seq = if self.seq == 0 { 0 } else { wire::uint64::encoded_len(SEQ, &self.seq) };
        let time = wire::message::encoded_len(EMIT_TIME, &self.emit_time);
        seq + 1 + wire::encoded_len_varint(cursor as u64) + cursor + time + self.place.len() + omitted + payload
    }

    /// Encodes it.
    pub fn encode(&self, buf: &mut impl BufMut) {
        if self.seq != 0 {
            wire::uint64::encode(SEQ, &self.seq, buf);
        }
        put_str(CURSOR, self.cursor.as_str(), buf);
        wire::message::encode(EMIT_TIME, &self.emit_time, buf);
        buf.put_slice(&self.place);
        if let Some(omitted) = &self.omitted {
            wire::message::encode(OMITTED, &**omitted, buf);
        }
        match &self.payload {
            Ready::Token(chunk) => token::encode(chunk, buf),
            Ready::Message(payload) => payload.encode(buf),
            Ready::Bytes(bytes) => buf.put_slice(bytes),
        }
    }
}

fn put_str(tag: u32, text: &str, buf: &mut impl BufMut) {
    wire::encode_key(tag, wire::WireType::LengthDelimited, buf);
    wire::encode_varint(text.len() as u64, buf);
    buf.put_slice(text.as_bytes());
}

/// Turns records into parts, for one stream.
pub(crate) struct Projector {
    encoding: JsonEncoding,
    max_bytes: usize,
    place: Place,
    /// Blocks sent so far of each message that has begun and not ended, by its id and the attempt of its task.
    messages: HashMap<(Arc<str>, u32), u32>,
    /// The message of the last chunk, which has begun and not ended. Most chunks follow one of the same message.
    current: Option<(Arc<str>, u32)>,
    /// The same for messages in events, and for the events themselves by run_id.
    events: HashMap<Uuid, u32>,
    begun: HashSet<Uuid>,
}

impl Projector {
    /// For a reader that takes parts of at most so many bytes.
    pub fn new(encoding: JsonEncoding, max_bytes: usize) -> Self {
        Self {
            encoding,
            max_bytes,
            place: Place::default(),
            messages: HashMap::new(),
            current: None,
            events: HashMap::new(),
            begun: HashSet::new(),
        }
    }

    /// The part of a record.
    pub fn part(&mut self, record: &Record, cursor: Cursor, shared: Option<&Arc<Shared>>) -> Part {
        let before = self.before(record);
        if let Body::Part(stream::Payload::Message(message)) = &record.body
            && !before.first
            && token::is_token(&message.chunk)
        {
            let part = Part {
                seq: record.seq,
                cursor,
                emit_time: timestamp(record.emit_time),
                place: self.place.of(record),
                omitted: None,
                payload: Ready::Token(message.chunk.clone()),
            };
            if part.encoded_len() <= self.max_bytes {
                return part;
            }
        }
        let encoded = match shared.filter(|shared| shared.is_shared() && is_same_for_all(record)) {
            Some(shared) => shared
                .get(record.seq, self.encoding, || {
                    let payload = payload(record, before, Some(self.encoding))?;
                    let mut buf = BytesMut::with_capacity(payload.encoded_len());
                    payload.encode(&mut buf);
                    Ok(buf.freeze())
                })
                .map(Ready::Bytes),
            None => payload(record, before, Some(self.encoding)).map(|payload| Ready::Message(Box::new(payload))),
        };
        let mut part = Part {
            seq: record.seq,
            cursor,
            emit_time: timestamp(record.emit_time),
            place: self.place.of(record),
            omitted: None,
            payload: Ready::Message(Box::new(Payload::Progress(Progress {}))),
        };
        let omitted = match encoded {
            Ok(payload) => {
                part.payload = payload;
                let size = part.encoded_len();
                if size <= self.max_bytes {
                    return part;
                }
                let message = format!("a part of {size} bytes, and the reader takes {}", self.max_bytes);
                Omission {
                    reason: ErrorReason::PartTooLarge.into(),
                    message,
                    size_bytes: size as u64,
                    checkpoint: None,
                }
            }
            Err(why) => {
                let reason = ErrorReason::JsonNotExact.into();
                Omission { reason, message: why.to_string(), ..Omission::default() }
            }
        };
        part.omitted = Some(Box::new(Omission { checkpoint: held_by(record), ..omitted }));
        // Without an encoding nothing is encoded, so nothing can be lost.
        if let Ok(bare) = payload(record, before, None) {
            part.payload = Ready::Message(Box::new(bare));
        }
        // Texts and lists beside the JSON values can be large as well.
        if part.encoded_len() > self.max_bytes
            && let Ready::Message(bare) = part.payload
        {
            part.payload = Ready::Message(Box::new(smallest(*bare)));
        }
        part
    }

    /// Nothing new.
    pub fn progress(&self, run: Option<RunId>, cursor: Cursor, now: std::time::SystemTime) -> Part {
        let head = StreamRunResponse { run_id: run.map(|id| id.to_string()).unwrap_or_default(), ..Default::default() };
        Part {
            seq: 0,
            cursor,
            emit_time: timestamp(now),
            place: head.encode_to_vec().into(),
            omitted: None,
            payload: Ready::Message(Box::new(Payload::Progress(Progress {}))),
        }
    }

    /// What of the same message or event was sent before; and notes that this is sent.
    fn before(&mut self, record: &Record) -> Before {
        const NEW: Before = Before { first: true, blocks: 0 };
        match &record.body {
            Body::Opening(_) if record.seq > 0 => {
                // What the attempt before had begun is not gone on with.
                self.messages.clear();
                self.current = None;
                self.events.clear();
                self.begun.clear();
                NEW
            }
            Body::Part(stream::Payload::Message(part)) => {
                let attempt = record.task.as_ref().map_or(1, |task| task.attempt);
                match &*part.chunk {
                    Chunk::Whole(_) => NEW,
                    Chunk::Delta { id, blocks, last: false, .. }
                        if blocks.is_empty()
                            && (self.current.as_ref())
                                .is_some_and(|(of, at)| Arc::ptr_eq(of, id) && *at == attempt) =>
                    {
                        // A token has no blocks, so it does not matter how many came before.
                        Before { first: false, blocks: 0 }
                    }
                    Chunk::Delta { id, blocks, last, .. } => {
                        let key = (id.clone(), attempt);
                        let before = note(&mut self.messages, &key, blocks.len(), *last);
                        self.current = (!*last).then_some(key);
                        before.unwrap_or(NEW)
                    }
                }
            }
            Body::Part(stream::Payload::Event(told)) => {
                let first = if event::is_last(told.kind) {
                    !self.begun.remove(&told.run_id)
                } else {
                    if self.begun.len() >= REMEMBERED {
                        self.begun.clear();
                    }
                    self.begun.insert(told.run_id)
                };
                let blocks = match told.data.chunk.as_deref() {
                    Some(Chunk::Delta { blocks, last, .. }) => {
                        note(&mut self.events, &told.run_id, blocks.len(), *last).map_or(0, |before| before.blocks)
                    }
                    _ => 0,
                };
                Before { first, blocks }
            }
            _ => NEW,
        }
    }
}

/// Notes blocks of a message, and gives what was noted before.
fn note<K: Clone + Eq + std::hash::Hash>(
    seen: &mut HashMap<K, u32>,
    key: &K,
    blocks: usize,
    last: bool,
) -> Option<Before> {
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let before = match seen.get_mut(key) {
        Some(sent) => {
            let before = Before { first: false, blocks: *sent };
            *sent = sent.saturating_add(blocks);
            Some(before)
        }
        None => {
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            if !last {
                seen.insert(key.clone(), blocks);
            }
            return None;
        }
    };
    if last {
        seen.remove(key);
    }
    before
}

/// Where the last part came from, encoded.
#[derive(Default)]
struct Place {
    run: Option<RunId>,
    attempt: u32,
    namespace: Arc<str>,
    step: Option<i64>,
    task: Option<(TaskId, u32)>,
    bytes: Bytes,
}

impl Place {
    fn of(&mut self, record: &Record) -> Bytes {
        let task = record.task.as_ref().map(|task| (task.id, task.attempt));
        let is_same = self.run == Some(record.run_id)
            && self.attempt == record.attempt
            && self.step == record.step
            && self.task == task
            && self.namespace == record.namespace;
        if !is_same {
            let head = StreamRunResponse {
                run_id: record.run_id.to_string(),
                attempt: record.attempt,
                namespace: namespace(&record.namespace),
                step: record.step.map(checkpoint::step),
                task_id: task.map(|(id, _)| id.to_string()).unwrap_or_default(),
                task_attempt: task.map(|(_, attempt)| attempt).unwrap_or_default(),
                ..StreamRunResponse::default()
            };
            *self = Self {
                run: Some(record.run_id),
                attempt: record.attempt,
                namespace: record.namespace.clone(),
                step: record.step,
                task,
                bytes: head.encode_to_vec().into(),
            };
        }
        self.bytes.clone()
    }
}

mod token;

#[cfg(test)]
mod tests;
