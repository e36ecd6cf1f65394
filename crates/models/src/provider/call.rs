//! One call of a model: attempts, waits, and its answer piece by piece.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures_util::StreamExt;
use genai::{
    Headers, ModelIden, ServiceTarget,
    chat::{ChatStream, ChatStreamEvent},
    resolver::{AuthData, Endpoint},
};
use runloom_engine::model::{ChatRequest, Delta, ModelError};
use tokio::time::Instant;

use super::{Inner, ProviderKind, fault::Fault, frames::Frames, key::Secret, request, retry};

/// A call under way. Dropping it closes its connection.
pub(crate) struct Call {
    model: Arc<Inner>,
    client: genai::Client,
    request: ChatRequest,
    state: State,
    /// Which attempt this is, from 1 on.
    attempt: u32,
    ready: VecDeque<Delta>,
    /// Whether a piece was given: what follows cannot begin again.
    has_given: bool,
    /// Bytes given.
    bytes: usize,
    secret: Option<Secret>,
}

enum State {
    Idle,
    Open(Box<Open>),
    Over,
}

/// An answer that comes.
struct Open {
    stream: ChatStream,
    frames: Frames,
    /// How many frames have been noticed.
    noticed: u64,
    deadline: Instant,
}

enum Step {
    Event(Option<genai::Result<ChatStreamEvent>>),
    /// Frames came, and the library has nothing to say of them.
    Frames,
    /// It reads and reads, and no frame ends.
    Endless,
}

impl Call {
    pub fn new(model: Arc<Inner>, client: genai::Client, request: ChatRequest) -> Self {
        let (state, ready) = (State::Idle, VecDeque::new());
        Self { model, client, request, state, attempt: 1, ready, has_given: false, bytes: 0, secret: None }
    }

    /// The next piece; none after the last, or after an error.
    pub async fn next(&mut self) -> Option<Result<Delta, ModelError>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                self.has_given = true;
                return Some(Ok(delta));
            }
            let done = match &self.state {
                State::Over => return None,
                State::Idle => self.open().await,
                State::Open(_) => self.step().await,
            };
            if let Err(fault) = done
                && let Some(error) = self.failed(fault).await
            {
                return Some(Err(error));
            }
        }
    }

    /// Sends the request.
    async fn open(&mut self) -> Result<(), Fault> {
        let config = &self.model.config;
        let kind = config.kind;
        self.secret = config.secret().await?;
        let address = config.address().map_err(|e| Fault::lasting(e.to_string()))?;
        let lasting = |why: String| Fault::lasting(why);
        let options = config.options.with(kind, &self.request.options).map_err(lasting)?;
        let conversation = request::conversation(kind, &self.request).map_err(lasting)?;
        let mut headers = request::trace_headers(&self.request);
        let auth = match (&self.secret, kind) {
            (Some(key), ProviderKind::Ollama) => {
                headers.push(("Authorization".to_owned(), format!("Bearer {}", key.expose())));
                AuthData::None
            }
            (Some(key), _) => AuthData::from_single(key.expose()),
            (None, ProviderKind::OpenAi) => {
                // The library knows no call without a key but this.
                let headers = Headers::from(std::mem::take(&mut headers));
                AuthData::RequestOverride { url: format!("{address}chat/completions"), headers }
            }
            (None, _) => AuthData::from_single(""),
        };
        let frames = Frames::new(kind);
        let wire = options
            .wire(kind, &config.model, conversation.tools.is_some())
            .with_extra_headers(headers)
            .with_raw_frame_sink(frames.clone());
        let target = ServiceTarget {
            endpoint: Endpoint::from_owned(address),
            auth,
            model: ModelIden::new(kind.adapter(), &*config.model),
        };
        let deadline = Instant::now() + config.waits.first_token;
        let answer =
            self.client.exec_chat_stream(target, conversation, Some(&wire)).await.map_err(|e| Fault::read(&e))?;
        self.state = State::Open(Box::new(Open { stream: answer.stream, frames, noticed: 0, deadline }));
        Ok(())
    }

    /// Reads on.
    async fn step(&mut self) -> Result<(), Fault> {
        let config = &self.model.config;
        let State::Open(open) = &mut self.state else { return Ok(()) };
        let deadline = open.deadline;
        let most = config.max_message_bytes;
        let Ok(step) = tokio::time::timeout_at(deadline, open.poll(most)).await else {
            let waits = &config.waits;
            return Err(Fault::passing(if self.has_given {
                format!("it sent nothing for {:?} in the middle of its answer (`silence_timeout_ms`)", waits.silence)
            } else {
                format!("it sent nothing of an answer for {:?} (`first_token_timeout_ms`)", waits.first_token)
            }));
        };
        let mut delta = Delta::default();
        let mut is_over = false;
        match step {
            Step::Event(Some(Ok(event))) => match event {
                ChatStreamEvent::Chunk(chunk) => delta.text = chunk.content,
                ChatStreamEvent::ReasoningChunk(chunk) => delta.reasoning = chunk.content,
                ChatStreamEvent::End(_) => is_over = true,
                _ => {}
            },
            Step::Event(Some(Err(error))) => return Err(Fault::read(&error)),
            Step::Event(None) => is_over = true,
            Step::Frames => {}
            Step::Endless => return Err(endless(most)),
        }
        let mut seen = open.frames.seen();
        if let Some(fault) = seen.answer.fault.take() {
            return Err(fault);
        }
        if seen.count != open.noticed {
            open.noticed = seen.count;
            if self.has_given {
                open.deadline = Instant::now() + config.waits.silence;
            }
        }
        delta.tool_calls = std::mem::take(&mut seen.answer.calls);
        if is_over {
            if !seen.answer.is_whole {
                let hint = if self.has_given { "" } else { "; does `base_url` name a server that streams?" };
                return Err(Fault::brief(format!("its answer ended before it was complete{hint}")));
            }
            delta.response_metadata = Some(seen.answer.finish(config.kind));
            delta.usage = seen.answer.usage;
            delta.last = true;
        }
        delta.blocks = std::mem::take(&mut seen.answer.blocks);
        self.bytes = self.bytes.saturating_add(weight(&delta));
        if self.bytes > most || seen.bytes > most.saturating_mul(FRAME_TO_CONTENT).saturating_add(1 << 20) {
            return Err(endless(most));
        }
        if !self.has_given {
            // The first piece is here: from now on silence counts.
            open.deadline =
                if delta == Delta::default() { open.deadline } else { Instant::now() + config.waits.silence };
        }
        drop(seen);
        if is_over {
            self.state = State::Over;
        }
        if delta != Delta::default() {
            self.ready.push_back(delta);
        }
        Ok(())
    }

    /// What becomes of a fault: another attempt, after a while, or an error.
    async fn failed(&mut self, fault: Fault) -> Option<ModelError> {
        // Closes the connection.
        self.state = State::Idle;
        let config = &self.model.config;
        let pause = retry::pause(self.attempt.saturating_add(1), fault.retry_after);
        let may = fault.try_again && !self.has_given && self.attempt <= config.max_retries;
        if may && pause <= retry::LONGEST_WAIT {
            let of = |key: &str| self.request.metadata.get_str(key).unwrap_or_default();
            tracing::warn!(
                run = of("run_id"),
                thread = of("thread_id"),
                provider = config.kind.name(),
                model = &*config.model,
                attempt = self.attempt,
                error = fault.what(),
                pause = ?pause,
                "a call of a model failed and is tried again"
            );
            // In the provider's words, which may repeat its user's.
            tracing::debug!(model = &*config.model, error = self.hidden(fault.message), "what the provider said");
            tokio::time::sleep(pause).await;
            self.attempt += 1;
            return None;
        }
        self.state = State::Over;
        let mut fault = fault;
        if may {
            fault.message.push_str(&format!(
                "; it asks to be left alone for {}, which is longer than is waited here",
                seconds(pause)
            ));
        }
        if self.attempt > 1 {
            fault.message.push_str(&format!(" (tried {} times)", self.attempt));
        }
        fault.message = self.hidden(fault.message);
        Some(fault.of(config))
    }

    fn hidden(&self, text: String) -> String {
        match &self.secret {
            Some(secret) => secret.hide_in(text),
            None => text,
        }
    }
}

impl Open {
    /// Waits for the next event, or for frames without one.
    async fn poll(&mut self, most: usize) -> Step {
        let (stream, frames, noticed) = (&mut self.stream, &self.frames, self.noticed);
        // The library keeps what it has of a frame until its end, and nothing tells how much that is, but each poll takes
        // one read of the connection, and copies what there is. So reads are counted, and timed.
        let mut left = (most / BYTES_A_POLL).max(256);
        let time = SHORTEST_LIMIT + Duration::from_secs((most >> 21) as u64);
        let mut spent = Duration::ZERO;
        poll_fn(|cx| {
            let began = Instant::now();
            if let Poll::Ready(event) = stream.poll_next_unpin(cx) {
                return Poll::Ready(Step::Event(event));
            }
            spent += began.elapsed();
            if frames.seen().count != noticed {
                return Poll::Ready(Step::Frames);
            }
            left -= 1;
            if left == 0 || spent > time { Poll::Ready(Step::Endless) } else { Poll::Pending }
        })
        .await
    }
}

/// So many bytes of frames may carry one byte of content.
const FRAME_TO_CONTENT: usize = 64;
/// Putting a frame together may take so long, and a second more for every two MiB of the limit.
const SHORTEST_LIMIT: Duration = Duration::from_secs(2);
/// A poll that finds no end of a frame has read so much of it, or more.
const BYTES_A_POLL: usize = 4096;

fn endless(most: usize) -> Fault {
    Fault::lasting(format!("its answer is longer than {most} bytes (`max_message_bytes`)"))
}

fn weight(delta: &Delta) -> usize {
    let calls = delta.tool_calls.iter().map(|call| call.args.len() + 64);
    let blocks = delta.blocks.iter().map(|block| usize::try_from(block.weight()).unwrap_or(usize::MAX));
    calls.chain(blocks).fold(delta.text.len() + delta.reasoning.len(), usize::saturating_add)
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
