//! The ids of messages that nodes stream, through the attempts of a node.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use runloom_engine::{
    channel::ChannelSpec,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo},
    stream::{Chunk, EventKind, Mode, Payload},
    *,
};

/// A model that says the same each time.
struct Says;

impl ChatModel for Says {
    fn name(&self) -> &str {
        "Says"
    }
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "says".into() }
    }
    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        Box::pin(futures_util::stream::iter([Ok(Delta { text: "hello".into(), ..Delta::default() }), Ok(Delta::end())]))
    }
}

/// A graph whose node says two messages, and fails after them the first time.
fn graph() -> Graph {
    let mut b = GraphBuilder::new("twice");
    b.add_channel(ChannelSpec::new("messages").reducer(Reducer::Messages));
    let has_failed = Arc::new(AtomicBool::new(false));
    let say = node(move |_: StateView, cx: Context| {
        let has_failed = has_failed.clone();
        async move {
            let first = cx.chat(&Says, ChatRequest::default(), &[]).await?;
            let second = cx.chat(&Says, ChatRequest::default(), &[]).await?;
            if !has_failed.swap(true, Ordering::SeqCst) {
                return Err(NodeError::msg("not yet"));
            }
            Ok(Update::new().set("messages", vec![first, second]))
        }
    });
    let retry = RetryPolicy { initial_interval: Duration::from_millis(1), ..RetryPolicy::default() };
    b.add_node("say", say.retry(retry)).add_edge(START, "say");
    b.compile().unwrap()
}

#[tokio::test]
async fn a_repeated_attempt_streams_its_messages_under_the_same_ids() {
    let config = RunConfig { modes: [Mode::Messages, Mode::Events].into(), ..RunConfig::default() };
    let mut parts = graph().stream(value!({}), config);
    let (mut said, mut calls) = ([Vec::new(), Vec::new()], Vec::new());
    while let Some(part) = parts.next().await {
        match &part.payload {
            Payload::Message(message) => {
                if let Chunk::Delta { id, last: true, .. } = &*message.chunk {
                    said[part.task.as_ref().unwrap().attempt as usize - 1].push(id.to_string());
                }
            }
            Payload::Event(event) if event.kind == EventKind::ChatModelStart => calls.push(event.run_id),
            _ => {}
        }
    }
    let finished = parts.finished().unwrap().unwrap();
    let [first, second] = said;
    assert_eq!(first.len(), 2);
    assert_ne!(first[0], first[1], "each call of a model has a message of its own");
    assert_eq!(first, second);
    let in_state: Vec<_> = (finished.values.get("messages").and_then(Value::as_list).unwrap().iter())
        .map(|message| message.get_str("id").unwrap().to_owned())
        .collect();
    assert_eq!(in_state, second);
    // The calls themselves are different ones.
    assert_eq!(calls.iter().collect::<HashSet<_>>().len(), 4);
    assert_eq!(first[0], format!("lc_run--{}", calls[0]));
}

#[tokio::test]
async fn another_run_has_other_ids() {
    let graph = graph();
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let out = graph.invoke(value!({}), RunConfig::default()).await.unwrap();
        for message in out.values.get("messages").and_then(Value::as_list).unwrap().iter() {
            ids.insert(message.get_str("id").unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 4);
}
