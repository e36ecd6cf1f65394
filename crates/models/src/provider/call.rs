//! One call of a model: attempts, waits, and its answer piece by piece.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use reqwest::Response;
use runloom_engine::model::{ChatRequest, Delta, ModelError};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Inner, ProviderKind, answer::Answer, client, fault::Fault, key::Secret, lines::Lines, request, retry, wire,
};

/// A call under way. Dropping it closes its connection.
pub(crate) struct Call {
    model: Arc<Inner>,
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

/// An answer under way.
struct Open {
    response: Response,
    lines: Lines,
    answer: Answer,
    /// When the first piece has to be there.
    deadline: Instant,
    /// Bytes received.
    received: usize,
}

impl Call {
    pub fn new(model: Arc<Inner>, request: ChatRequest) -> Self {
        let (state, ready) = (State::Idle, VecDeque::new());
        Self { model, request, state, attempt: 1, ready, has_given: false, bytes: 0, secret: None }
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

    /// Sends the request, and waits for the head of the answer.
    async fn open(&mut self) -> Result<(), Fault> {
        let config = &self.model.config;
        let kind = config.kind;
        self.secret = config.secret().await?;
        let lasting = |why: String| Fault::lasting(why);
        let options = config.options.with(kind, &self.request.options).map_err(lasting)?;
        let conversation = request::conversation(kind, &self.request).map_err(lasting)?;
        let (path, body) = wire::request(config, &options, conversation);
        let mut sending = client::request(self.model.client()?, config, self.secret.as_ref(), &path, &body)?;
        for (name, value) in request::trace_headers(&self.request) {
            sending = sending.header(name, value);
        }
        let deadline = Instant::now() + config.waits.first_token;
        let limit = config.max_message_bytes;
        let answering = async {
            let mut response = sending.send().await.map_err(|error| Fault::of_connection(&error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let headers = response.headers().clone();
            match client::body(&mut response, limit).await? {
                Some(body) => Err(Fault::of_answer(status, &String::from_utf8_lossy(&body), &headers)),
                None => Err(too_long(limit)),
            }
        };
        let response = timeout_at(deadline, answering).await.map_err(|_| self.silent())??;
        let lines = Lines::new(kind != ProviderKind::Ollama);
        let open = Open { response, lines, answer: Answer::default(), deadline, received: 0 };
        self.state = State::Open(Box::new(open));
        Ok(())
    }

    fn silent(&self) -> Fault {
        let waits = &self.model.config.waits;
        Fault::passing(if self.has_given {
            format!("it sent nothing for {:?} in the middle of its answer (`silence_timeout_ms`)", waits.silence)
        } else {
            format!("it sent nothing of an answer for {:?} (`first_token_timeout_ms`)", waits.first_token)
        })
    }

    /// Reads until there is a piece, or the answer is over.
    async fn step(&mut self) -> Result<(), Fault> {
        let (kind, limit) = (self.model.config.kind, self.model.config.max_message_bytes);
        let mut has_ended = false;
        loop {
            let State::Open(open) = &mut self.state else { return Ok(()) };
            let frame = if has_ended { open.lines.rest() } else { open.lines.next() };
            if let Some(frame) = frame {
                open.answer.read(kind, &frame)?;
                let is_over = open.answer.is_over;
                let delta = if is_over { Some(open.answer.finish(kind)) } else { open.answer.take() };
                if let Some(delta) = delta {
                    self.bytes = self.bytes.saturating_add(weight(&delta));
                    if self.bytes > limit {
                        return Err(too_long(limit));
                    }
                    self.ready.push_back(delta);
                    if is_over {
                        self.end();
                    }
                    return Ok(());
                }
            } else if has_ended {
                if !open.answer.is_complete {
                    let hint = if self.has_given { "" } else { "; does `base_url` name a server that streams?" };
                    return Err(Fault::brief(format!("its answer ended before it was complete{hint}")));
                }
                self.ready.push_back(open.answer.finish(kind));
                self.state = State::Over;
                return Ok(());
            } else {
                has_ended = !self.receive(limit).await?;
            }
        }
    }

    /// Receives more bytes. False at the end of the body.
    async fn receive(&mut self, limit: usize) -> Result<bool, Fault> {
        let silence = self.model.config.waits.silence;
        let State::Open(open) = &mut self.state else { return Ok(false) };
        if open.lines.pending() > limit.saturating_mul(BYTES_PER_BYTE).saturating_add(64 << 10)
            || open.received > limit.saturating_mul(FRAMES_PER_CONTENT).saturating_add(1 << 20)
        {
            return Err(too_long(limit));
        }
        // A body that always has bytes ready would keep this task from ever yielding.
        tokio::task::coop::consume_budget().await;
        let deadline = if self.has_given { Instant::now() + silence } else { open.deadline };
        let Ok(received) = timeout_at(deadline, open.response.chunk()).await else { return Err(self.silent()) };
        let Some(bytes) = received.map_err(|error| Fault::of_connection(&error))? else { return Ok(false) };
        open.received = open.received.saturating_add(bytes.len());
        open.lines.push(&bytes);
        Ok(true)
    }

    /// Ends an answer whose body may have an end that is still to come: the connection is used again once it is read.
    fn end(&mut self) {
        let State::Open(mut open) = std::mem::replace(&mut self.state, State::Over) else { return };
        if open.response.chunk().now_or_never().is_none() {
            tokio::spawn(async move {
                let _: Result<Result<Option<Bytes>, _>, _> = timeout(END_OF_BODY, open.response.chunk()).await;
            });
        }
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

/// So many bytes of a body may carry one byte of content.
const FRAMES_PER_CONTENT: usize = 64;
/// So many bytes of JSON may stand for one byte of content in a single frame.
const BYTES_PER_BYTE: usize = 2;
/// How long the end of a body is waited for after the end mark of its answer.
const END_OF_BODY: Duration = Duration::from_secs(1);

fn too_long(limit: usize) -> Fault {
    Fault::lasting(format!("its answer is longer than {limit} bytes (`max_message_bytes`)"))
}

fn weight(delta: &Delta) -> usize {
    let calls = delta.tool_calls.iter().map(|call| call.args.len() + 64);
    let blocks = delta.blocks.iter().map(|block| usize::try_from(block.weight()).unwrap_or(usize::MAX));
    calls.chain(blocks).fold(delta.text.len() + delta.reasoning.len(), usize::saturating_add)
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
