//! The stream of a thread's events as SSE.

use futures_util::StreamExt;
use runloom_core::Error;
use runloom_engine::Value;

use super::{log::ThreadLog, subscription::Subscription};
use crate::face::{Api, Call, Reply, Told, sse};

/// `POST /threads/{thread_id}/stream/events`: the events that the body subscribes to, from the thread's beginning or after
/// `since`; without it, after the header `Last-Event-ID`.
pub(crate) async fn stream(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    let subscription = Subscription::read(&call.body)?;
    let named = call.header("last-event-id").and_then(|id| id.parse().ok());
    let since = call.body.get("since").and_then(Value::as_u64).or(named).unwrap_or_default();
    let log = ThreadLog::open(&api.core, thread, since).await?;
    let events = futures_util::stream::unfold((log, subscription), |(mut log, subscription)| async move {
        let next = wanted(&mut log, &subscription).await?;
        Some((next, (log, subscription)))
    });
    Ok(sse(events.boxed(), &api))
}

async fn wanted(log: &mut ThreadLog, subscription: &Subscription) -> Option<Result<Told, Error>> {
    loop {
        match log.next().await? {
            Err(error) => return Some(Err(error)),
            Ok(next) if subscription.wants(&next) => {
                let (id, name) = (next.seq.to_string(), next.method().to_owned());
                return Some(Ok(Told { id, name, data: next.to_value() }));
            }
            Ok(_) => {}
        }
    }
}
