//! A fake provider of chat models: sends scripted answers byte by byte, and records the requests.
//!
//! It speaks HTTP/1.1 by hand, so that a test decides where each chunk ends. Which answer a request gets is chosen by the
//! model it names: the first request of a model gets its first answer, the last answer stays.

mod answer;
pub mod anthropic;
mod connection;
pub mod gemini;
pub mod ollama;
pub mod openai;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinHandle,
};

pub use answer::{Answer, Piece};

/// A running provider. It stops when it is dropped.
pub struct FakeProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path, with the query.
    pub path: String,
    /// Its headers; the names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Value,
    /// When it was there.
    pub at: Instant,
    connection: usize,
}

impl Seen {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct Shared {
    state: std::sync::Mutex<State>,
    news: Notify,
    gate: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Vec<Answer>>,
    given: HashMap<String, usize>,
    seen: Vec<Seen>,
    /// When each connection was closed at the other end.
    closed: Vec<Option<Instant>>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.news.notify_waiters();
        result
    }

    async fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let found = look(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            match found {
                Some(found) => return found,
                None => news.await,
            }
        }
    }
}

impl FakeProvider {
    /// Starts one on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(connection::accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Its address, up to the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same as OpenAI's clients want it.
    pub fn openai_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What a model answers.
    pub fn answers(&self, model: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.change(|state| state.scripts.insert(model.to_owned(), answers.into_iter().collect()));
    }

    /// Lets one answer that waits at a gate go on.
    pub fn open_gate(&self) {
        self.shared.gate.0.add_permits(1);
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        self.shared.change(|state| state.seen.len())
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.change(|state| state.closed.len())
    }

    /// The `n`-th request, from 0 on, as soon as it is there.
    pub async fn request(&self, n: usize) -> Seen {
        self.shared.wait_for(|state| state.seen.get(n).cloned()).await
    }

    /// When the connection of the `n`-th request was closed at the other end, as soon as it is.
    pub async fn closed(&self, n: usize) -> Instant {
        self.shared.wait_for(|state| state.seen.get(n).and_then(|seen| state.closed[seen.connection])).await
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
