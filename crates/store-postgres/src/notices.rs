//! Notices between servers: topics that changed, gathered for some milliseconds, then sent by `NOTIFY` on a connection of
//! their own. Never in a transaction that writes: a commit with a notice takes a lock on the whole database.
//!
//! A payload is the sender and its topics, ids only: `<sender>;r<run>;t<thread>;p;…`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{Hub, ServerId, Topic};
use sqlx::{PgPool, postgres::PgListener, postgres::PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{options::Target, sql::safe, tx::jittered};

/// The channel of all notices.
const CHANNEL: &str = "runloom";
/// How long topics are gathered.
const GATHER: Duration = Duration::from_millis(10);
/// Past this number of topics the notice says that anything may have changed.
const MOST_TOPICS: usize = 8192;
/// The most bytes of one payload; Postgres takes less than 8000.
const PAYLOAD: usize = 7000;
/// How often watchers read without a notice, where the store does not listen.
const POLL: Duration = Duration::from_millis(500);
/// How long to wait before the next attempt to listen.
const RELISTEN: Duration = Duration::from_secs(1);

/// Topics on their way to other servers.
pub(crate) struct Outbox {
    sender: Uuid,
    topics: Mutex<HashSet<Topic>>,
    filled: Notify,
}

impl Outbox {
    pub fn new() -> Self {
        Self { sender: Uuid::new_v4(), topics: Mutex::default(), filled: Notify::new() }
    }

    pub fn push(&self, topics: impl IntoIterator<Item = Topic>) {
        let mut waiting = self.topics.lock();
        let was_empty = waiting.is_empty();
        waiting.extend(topics);
        if was_empty && !waiting.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Sends what gathers, until the token is cancelled.
    pub async fn send(self: Arc<Self>, pool: PgPool, stop: CancellationToken) {
        let send = async {
            loop {
                self.filled.notified().await;
                tokio::time::sleep(GATHER).await;
                let topics = std::mem::take(&mut *self.topics.lock());
                let payloads = self.payloads(&topics);
                metrics::counter!("runloom_store_notices_total").increment(payloads.len() as u64);
                // As one simple query, whatever stands between. A payload has no quotes.
                let sql: Vec<String> = payloads.iter().map(|text| format!("NOTIFY {CHANNEL}, '{text}'")).collect();
                if let Err(error) = sqlx::raw_sql(safe(sql.join("; "))).execute(&pool).await {
                    tracing::debug!(%error, "a notice was not sent");
                    tokio::time::sleep(jittered(RELISTEN)).await;
                    self.push(topics);
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = stop.cancelled() => {}
        }
    }

    fn payloads(&self, topics: &HashSet<Topic>) -> Vec<String> {
        let head = self.sender.simple().to_string();
        if topics.len() > MOST_TOPICS {
            return vec![format!("{head};*")];
        }
        let mut payloads = Vec::new();
        let mut payload = head.clone();
        for topic in topics {
            if payload.len() > PAYLOAD {
                payloads.push(std::mem::replace(&mut payload, head.clone()));
            }
            payload.push(';');
            payload.push_str(&encode(topic));
        }
        payloads.push(payload);
        payloads
    }

    /// Publishes a notice of another server to this one's watchers.
    fn receive(&self, payload: &str, hub: &Hub) {
        let mut parts = payload.split(';');
        let sender = parts.next().and_then(|sender| Uuid::try_parse(sender).ok());
        if sender == Some(self.sender) {
            return;
        }
        let topics: Option<Vec<Topic>> = parts.map(decode).collect();
        match topics {
            Some(topics) => hub.publish(&topics),
            // Everything, or a topic of a later version.
            None => hub.publish_all(),
        }
    }

    /// Listens on a connection of its own, until the token is cancelled.
    pub async fn listen(self: Arc<Self>, target: Target, hub: Arc<Hub>, stop: CancellationToken) {
        let listen = async {
            loop {
                if let Err(error) = self.listen_once(&target, &hub).await {
                    tracing::debug!(%error, "the store does not hear notices now; it polls");
                }
                // What changed meanwhile was not heard.
                hub.publish_all();
                tokio::time::sleep(jittered(RELISTEN)).await;
            }
        };
        tokio::select! {
            () = listen => {}
            () = stop.cancelled() => {}
        }
    }

    async fn listen_once(&self, target: &Target, hub: &Hub) -> Result<(), sqlx::Error> {
        let host = target.first_serving().await?;
        let pool =
            PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(host);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        hub.publish_all();
        while let Some(notice) = listener.try_recv().await? {
            self.receive(notice.payload(), hub);
        }
        Ok(())
    }
}

/// Has watchers read now and then, where no notices are heard.
pub(crate) async fn poll(hub: Arc<Hub>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(POLL)) => hub.publish_all(),
            () = stop.cancelled() => return,
        }
    }
}

fn encode(topic: &Topic) -> String {
    match topic {
        Topic::Run(run) => format!("r{}", run.0.simple()),
        Topic::Thread(thread) => format!("t{}", thread.0.simple()),
        Topic::Cancels(server) => format!("c{}", server.0.simple()),
        Topic::Pending => "p".into(),
        Topic::Graphs => "g".into(),
        Topic::Schedules => "s".into(),
        Topic::Deliveries => "d".into(),
    }
}

/// A topic; none where it is everything, or not known.
fn decode(text: &str) -> Option<Topic> {
    let (kind, id) = text.split_at_checked(1)?;
    let id = || Uuid::try_parse(id).ok();
    match kind {
        "r" => Some(Topic::Run(RunId(id()?))),
        "t" => Some(Topic::Thread(ThreadId(id()?))),
        "c" => Some(Topic::Cancels(ServerId(id()?))),
        "p" => Some(Topic::Pending),
        "g" => Some(Topic::Graphs),
        "s" => Some(Topic::Schedules),
        "d" => Some(Topic::Deliveries),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back_and_payloads_are_small() {
        let id = Uuid::from_u128(7);
        let mut topics: HashSet<Topic> = [
            Topic::Run(RunId(id)),
            Topic::Thread(ThreadId(id)),
            Topic::Cancels(ServerId(id)),
            Topic::Pending,
            Topic::Graphs,
            Topic::Schedules,
            Topic::Deliveries,
        ]
        .into();
        for topic in &topics {
            assert_eq!(decode(&encode(topic)), Some(*topic));
        }
        assert_eq!(decode("*"), None);
        topics.extend((0..1000).map(|n| Topic::Run(RunId(Uuid::from_u128(n)))));
        let outbox = Outbox::new();
        let payloads = outbox.payloads(&topics);
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8000));
        let back: HashSet<Topic> = payloads.iter().flat_map(|p| p.split(';').skip(1).filter_map(decode)).collect();
        assert_eq!(back, topics);
    }
}
