//! A run's filter: what it leaves out is not told, and a reader who filters afterwards sees the same.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use runloom_engine::{
    channel::ChannelSpec,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo},
    stream::{Chunk, EventFilter, EventKind, Mode, Part, Patterns, Payload},
    *,
};

/// A model that says two words.
struct Says;

impl ChatModel for Says {
    fn name(&self) -> &str {
        "Says"
    }
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "says".into() }
    }
    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        Box::pin(futures_util::stream::iter([Delta::text("secret "), Delta::text("plan"), Delta::end()].map(Ok)))
    }
}

fn whole(id: &str) -> Value {
    value!({"type": "ai", "id": id, "content": "whole", "response_metadata": {}})
}

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("messages").reducer(Reducer::Messages));
    b
}

/// A node that says something in tokens.
fn say(tag: &'static str) -> NodeSpec {
    node(move |_: StateView, cx: Context| async move {
        cx.event("noted", 1);
        cx.tool("look", Value::Null, async { Ok(Value::Null) }).await?;
        let message = cx.chat(&Says, ChatRequest::default(), &[tag.into()]).await?;
        Ok(Update::new().set("messages", vec![message]))
    })
}

/// Two words in tokens from `agent`, a whole message from `tools`, then again from an agent within `inner`.
fn graph() -> Graph {
    let mut b = builder("inner");
    b.add_node("deep", say("internal")).add_edge(START, "deep");
    let inner = b.compile().unwrap();
    let mut b = builder("talk");
    b.add_node("agent", say("mine").tag("agents"));
    b.add_node(
        "tools",
        node(|_: StateView, _| async { Ok(Update::new().set("messages", vec![whole("w")])) }).tag("plain"),
    );
    b.add_node("inner", subgraph(inner));
    b.add_route("agent", "on", Arc::new(|_: &StateView, _: &Context| Ok(vec![Goto::Node("tools".into())])), None);
    b.add_edge(START, "agent").add_edge("tools", "inner");
    b.compile().unwrap()
}

async fn told(events: EventFilter, mode: Mode, subgraphs: bool) -> Vec<Part> {
    let config = RunConfig { events, subgraphs, ..RunConfig::default() }.modes(mode);
    graph().stream(value!({"messages": []}), config).collect().await
}

fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    Patterns::new(&names(include), &names(exclude)).unwrap()
}

fn filters() -> Vec<(&'static str, EventFilter)> {
    let open = EventFilter::default;
    vec![
        ("open", open()),
        ("names", EventFilter { names: patterns(&["Says"], &[]), ..open() }),
        ("other names", EventFilter { names: patterns(&[], &["S*"]), ..open() }),
        ("nodes", EventFilter { nodes: patterns(&["agent"], &[]), ..open() }),
        ("other nodes", EventFilter { nodes: patterns(&[], &["agent", "deep"]), ..open() }),
        ("no tools", EventFilter { nodes: patterns(&[], &["tools"]), ..open() }),
        ("no tags", EventFilter { tags: patterns(&["zz"], &[]), ..open() }),
        ("the node's tags", EventFilter { tags: patterns(&["agents"], &[]), ..open() }),
        ("not the node's tags", EventFilter { tags: patterns(&[], &["plain", "agents"]), ..open() }),
        ("not the call's tags", EventFilter { tags: patterns(&[], &["internal", "mine"]), ..open() }),
        ("the outermost", EventFilter { namespaces: patterns(&[""], &[]), ..open() }),
        ("the inner", EventFilter { namespaces: patterns(&[], &[""]), ..open() }),
        ("a step", EventFilter { tags: patterns(&["graph:step:2"], &[]), ..open() }),
        ("all steps", EventFilter { tags: patterns(&["graph:*"], &[]), ..open() }),
        ("parts of steps", EventFilter { tags: patterns(&["seq:*"], &[]), ..open() }),
        ("no parts of steps", EventFilter { tags: patterns(&[], &["seq:step:*"]), ..open() }),
        ("no graph steps", EventFilter { tags: patterns(&[], &["graph:step:*"]), ..open() }),
    ]
}

/// What one who filters a part that was told lets through.
fn admits(filter: &EventFilter, part: &Part) -> bool {
    match &part.payload {
        Payload::Message(m) => {
            let tags = m.meta.tags.iter().chain(m.tags.iter());
            let node = m.meta.task.as_ref().map(|t| &*t.node);
            filter.admits_message(m.name.as_deref().unwrap_or_default(), node, &part.namespace, tags)
        }
        Payload::Event(e) => {
            let node = e.meta.task.as_ref().map(|t| &*t.node);
            filter.admits(e.kind, &e.name, node, &part.namespace, e.tags.iter())
        }
        other => panic!("{other:?}"),
    }
}

/// A part without what differs from run to run.
fn shown(part: &Part) -> String {
    let place = part.task.as_ref().map_or("", |t| &*t.node);
    match &part.payload {
        Payload::Message(m) => match &*m.chunk {
            Chunk::Whole(message) => format!("{place}: whole {}", message.get("content").unwrap()),
            Chunk::Delta { text, .. } => format!("{place}: {text:?}"),
        },
        Payload::Event(e) => format!("{place}: {} {} {:?}", e.kind, e.name, e.tags),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_tells_what_a_reader_with_the_same_filter_would_see() {
    for (mode, subgraphs) in [(Mode::Messages, true), (Mode::Events, true), (Mode::Events, false)] {
        let all = told(EventFilter::default(), mode, subgraphs).await;
        let mut sizes = Vec::new();
        for (name, filter) in filters() {
            let expected: Vec<String> = all.iter().filter(|p| admits(&filter, p)).map(shown).collect();
            let got: Vec<String> = told(filter, mode, subgraphs).await.iter().map(shown).collect();
            assert_eq!(got, expected, "{mode:?}, {name}");
            sizes.push(got.len());
        }
        if mode == Mode::Messages {
            assert_eq!(sizes[..4], [7, 6, 1, 3], "{sizes:?}");
        } else {
            assert!(sizes[12] > 0 && sizes[13] > sizes[12] && sizes[14] > 0, "{sizes:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_left_out_is_not_told_whole_by_the_graph_around_it() {
    let filter = EventFilter { tags: patterns(&[], &["internal"]), ..EventFilter::default() };
    let texts = |parts: Vec<Part>| parts.iter().map(shown).collect::<Vec<_>>();
    let open = texts(told(EventFilter::default(), Mode::Messages, false).await);
    assert_eq!(open.last().unwrap(), r#"inner: whole "secret plan""#, "the subgraph is silent, its message is not");
    assert_eq!(texts(told(filter, Mode::Messages, false).await), open[..open.len() - 1]);
}

#[tokio::test]
async fn nostream_on_a_call_a_node_a_graph_around_or_the_run_keeps_tokens_and_the_message_out_of_the_stream() {
    let sent = async |call: &'static str, node_tag: Option<&str>, run_tag: Option<&str>, nested: bool| {
        let mut b = builder("quiet");
        let tagged = |spec: NodeSpec| match node_tag {
            Some(tag) => spec.tag(tag),
            None => spec,
        };
        if nested {
            let mut inner = builder("inner");
            inner.add_node("say", say(call)).add_edge(START, "say");
            b.add_node("agent", tagged(subgraph(inner.compile().unwrap())));
        } else {
            b.add_node("agent", tagged(say(call)));
        }
        b.add_edge(START, "agent");
        let tags = run_tag.map(Into::into).into_iter().collect();
        let config = RunConfig { tags, subgraphs: true, ..RunConfig::default() }.modes(Mode::Messages);
        let mut stream = b.compile().unwrap().stream(value!({"messages": []}), config);
        let mut parts = Vec::new();
        while let Some(part) = stream.next().await {
            parts.push(shown(&part));
        }
        let end = stream.finished().unwrap().unwrap();
        assert_eq!(end.values.get("messages").unwrap().as_list().unwrap().len(), 1, "the state has the message");
        parts
    };
    for nested in [false, true] {
        assert!(!sent("loud", None, None, nested).await.is_empty());
        assert!(sent("nostream", None, None, nested).await.is_empty(), "a call, nested: {nested}");
        assert!(sent("loud", Some("nostream"), None, nested).await.is_empty(), "a node, nested: {nested}");
        assert!(sent("loud", None, Some("nostream"), nested).await.is_empty(), "the run, nested: {nested}");
    }
}

#[tokio::test]
async fn a_failing_node_has_its_step_in_the_filter() {
    let mut b = builder("fails");
    b.add_node("n", node(|_: StateView, _| async { Err::<Update, _>(NodeError::msg("no")) })).add_edge(START, "n");
    let graph = b.compile().unwrap();
    for (tag, count) in [("graph:step:1", 1), ("graph:step:2", 0)] {
        let events = EventFilter { tags: patterns(&[tag], &[]), ..EventFilter::default() };
        let config = RunConfig { events, ..RunConfig::default() }.modes(Mode::Events);
        let parts: Vec<Part> = graph.stream(value!({"messages": []}), config).collect().await;
        let is_error = |p: &&Part| matches!(&p.payload, Payload::Event(e) if e.kind == EventKind::ChainError);
        assert_eq!(parts.iter().filter(is_error).count(), count, "{tag}");
    }
}
