//! Pieces of a message that follow one another in a block: what the piece before has said already, the next one leaves out.
//! A token is kept in thirty bytes that way, not in two hundred.

use std::{ops::Deref, sync::Arc};

use runloom_engine::stream::{Chunk, Event, EventKind, MessagePart, Payload};

use super::{
    kept::KeptBody,
    kept_chunk::KeptChunk,
    record::{Body, Record},
};

/// The last piece of a message in a block, and the last event of one.
pub(super) struct Pieces<R> {
    message: Option<R>,
    event: Option<R>,
}

impl<R> Default for Pieces<R> {
    fn default() -> Self {
        Self { message: None, event: None }
    }
}

impl<R: Deref<Target = Record>> Pieces<R> {
    /// Notes a record that pieces may follow.
    pub fn note(&mut self, record: R) {
        match &record.body {
            Body::Part(Payload::Message(_)) => self.message = Some(record),
            Body::Part(Payload::Event(event)) if event.kind == EventKind::ChatModelStream => self.event = Some(record),
            _ => {}
        }
    }

    /// The body of a record that only goes on with the piece before; none where it says more.
    pub fn shorten(&self, record: &Record) -> Option<KeptBody> {
        match &record.body {
            Body::Part(Payload::Message(now)) => {
                let (before, last) = (self.message.as_deref()?, self.message()?);
                let is_next = is_of_one_place(before, record)
                    && Arc::ptr_eq(&last.meta, &now.meta)
                    && last.model == now.model
                    && last.name == now.name
                    && last.tags == now.tags;
                let chunk = is_next.then(|| rest_of(&now.chunk, &last.chunk)).flatten()?;
                Some(KeptBody::P(chunk))
            }
            Body::Part(Payload::Event(now)) => {
                let (before, last) = (self.event.as_deref()?, self.event()?);
                let is_next = is_of_one_place(before, record)
                    && last.kind == now.kind
                    && last.run_id == now.run_id
                    && Arc::ptr_eq(&last.meta, &now.meta)
                    && last.name == now.name
                    && last.parent_ids == now.parent_ids
                    && last.model == now.model
                    && last.tags == now.tags
                    && now.data.is_chunk_alone();
                let (now, last) = (now.data.chunk.as_deref()?, last.data.chunk.as_deref()?);
                let chunk = is_next.then(|| rest_of(now, last)).flatten()?;
                Some(KeptBody::Q(chunk))
            }
            _ => None,
        }
    }

    /// The payload that was shortened to a piece of a message; none where no piece came before.
    pub fn next_message(&self, chunk: KeptChunk) -> Option<(&R, Payload)> {
        let last = self.message()?;
        let chunk = chunk.after(&last.chunk)?;
        Some((self.message.as_ref()?, Payload::Message(MessagePart { chunk, ..last.clone() })))
    }

    /// The same of an event.
    pub fn next_event(&self, chunk: KeptChunk) -> Option<(&R, Payload)> {
        let last = self.event()?;
        let mut event = last.clone();
        event.data.chunk = Some(chunk.after(last.data.chunk.as_deref()?)?);
        Some((self.event.as_ref()?, event.into()))
    }

    fn message(&self) -> Option<&MessagePart> {
        match &self.message.as_deref()?.body {
            Body::Part(Payload::Message(message)) => Some(message),
            _ => None,
        }
    }

    fn event(&self) -> Option<&Event> {
        match &self.event.as_deref()?.body {
            Body::Part(Payload::Event(event)) => Some(event),
            _ => None,
        }
    }
}

fn is_of_one_place(before: &Record, record: &Record) -> bool {
    before.attempt == record.attempt
        && before.step == record.step
        && before.task == record.task
        && before.namespace == record.namespace
}

/// A piece without what the one before has said: whose it is.
fn rest_of(now: &Chunk, before: &Chunk) -> Option<KeptChunk> {
    match (now, before) {
        (Chunk::Delta { id, name, .. }, Chunk::Delta { id: last_id, name: last_name, .. })
            if id == last_id && name == last_name =>
        {
            Some(KeptChunk::rest(now))
        }
        _ => None,
    }
}
