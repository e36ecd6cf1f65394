//! The step that calls a chat model: what the model is given, what is written and bound.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{Ran, graph_with, run};
use futures_util::{StreamExt, stream::BoxStream};
use runloom_document::Registry;
use runloom_engine::{
    Value,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo},
    stream::{Chunk, Mode, Modes, Payload},
    value,
};

/// A model that keeps what it was asked, and answers with how many messages that was.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<ChatRequest>>>);

impl ChatModel for Keeper {
    fn name(&self) -> &str {
        "Keeper"
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "keeper".into() }
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let n = request.messages.len();
        self.0.lock().unwrap().push(request);
        futures_util::stream::iter([Ok(Delta::text(n.to_string())), Ok(Delta::end())]).boxed()
    }
}

/// Runs one node that calls the keeper, over a history of messages; gives what it was asked.
async fn ask(state: &str, chat: &str, more: &str, input: Value) -> (ChatRequest, Ran) {
    let keeper = Keeper::default();
    let registry = Registry::new().model("keeper", Arc::new(keeper.clone()));
    let text = format!(
        "state: {{ {state} }}\ntools: {{ look: {{ description: Looks., parameters: {{ type: object }}, result: '1' }} }}\n\
         nodes:\n  one: {{ steps: [ {{ chat_model: {{ model: keeper, {chat} }} }} {more} ] }}\nedges: [ {{ from: START, to: one }} ]"
    );
    let graph = graph_with(&text, &[], &registry);
    let ran = run(&graph, input, Modes::from(Mode::Messages).with(Mode::Updates)).await;
    ran.values();
    let asked = keeper.0.lock().unwrap().pop().unwrap();
    (asked, ran)
}

const MESSAGES: &str = "messages: { reducer: messages }";

fn history() -> Value {
    value!({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]})
}

#[tokio::test]
async fn it_is_given_the_state_s_messages_and_its_answer_is_added_to_them() {
    let (asked, ran) = ask(MESSAGES, "system: Be kind., tools: [look]", "", history()).await;
    let kinds: Vec<&str> = asked.messages.iter().map(|m| m.get_str("type").unwrap()).collect();
    assert_eq!(kinds, ["human", "ai"]);
    assert_eq!(asked.system.as_deref(), Some("Be kind."));
    assert_eq!(asked.tools.len(), 1);
    assert_eq!((&*asked.tools[0].name, &*asked.tools[0].description), ("look", "Looks."));
    assert_eq!(asked.metadata.get("task_id").and_then(Value::as_str).map(str::len), Some(36));
    let values = ran.values();
    let messages = values.get("messages").unwrap().as_list().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages.last().unwrap().get_str("content"), Some("2"));
    let tokens = ran
        .parts
        .iter()
        .filter(|p| matches!(&p.payload, Payload::Message(m) if matches!(&*m.chunk, Chunk::Delta { .. })));
    assert_eq!(tokens.count(), 2, "its tokens are told, and the whole message is not told again");
}

#[tokio::test]
async fn its_messages_may_be_an_expression_over_any_form_of_message() {
    let chat = r#"messages: '["hi", {"role": "developer", "content": "x"}] + state.messages'"#;
    let (asked, _) = ask(MESSAGES, chat, "", history()).await;
    let kinds: Vec<&str> = asked.messages.iter().map(|m| m.get_str("type").unwrap()).collect();
    assert_eq!(kinds, ["human", "system", "human", "ai"]);
    let (asked, _) = ask(MESSAGES, "messages: [ { role: user, content: state.x } ]", "", history()).await;
    assert_eq!(asked.messages.get(0).unwrap().get_str("content"), Some("state.x"), "what is no text stands for itself");
}

#[tokio::test]
async fn its_answer_goes_where_it_is_told() {
    let more = ", { update: { said: 'other.content' } }";
    let (_, ran) = ask(&format!("{MESSAGES}, said: {{}}"), "write: '', as: other", more, history()).await;
    assert_eq!(ran.values().get("said"), Some(&value!("2")));
    assert_eq!(ran.values().get("messages").unwrap().as_list().unwrap().len(), 2, "written nowhere else");
    let (_, ran) = ask(&format!("{MESSAGES}, said: {{}}"), "write: said", "", history()).await;
    assert_eq!(
        ran.values().get("said").unwrap().get_str("content"),
        Some("2"),
        "a channel of one value holds the message"
    );
    let (_, ran) = ask(&format!("{MESSAGES}, all: {{ reducer: append }}"), "write: all", "", history()).await;
    assert_eq!(ran.values().get("all").unwrap().as_list().unwrap().len(), 1);
    let more = ", { update: { said: 'reply.content' } }";
    let (_, ran) = ask(&format!("{MESSAGES}, said: {{}}"), "", more, history()).await;
    assert_eq!(ran.values().get("said"), Some(&value!("2")), "it is bound to `reply` where no name is given");
}

#[tokio::test]
async fn instructions_may_be_an_expression() {
    let (asked, _) =
        ask(MESSAGES, "system: { expr: '\"You have \" + string(size(state.messages))' }", "", history()).await;
    assert_eq!(asked.system.as_deref(), Some("You have 2"));
}

#[tokio::test]
async fn its_tags_are_its_calls_own() {
    let (_, ran) = ask(MESSAGES, "tags: [main]", "", history()).await;
    let tagged =
        ran.parts.iter().any(|p| matches!(&p.payload, Payload::Message(m) if m.tags.iter().any(|t| &**t == "main")));
    assert!(tagged);
    let (_, ran) = ask(MESSAGES, "tags: [nostream]", "", history()).await;
    let deltas =
        ran.parts.iter().any(|p| matches!(&p.payload, Payload::Message(m) if matches!(&*m.chunk, Chunk::Delta { .. })));
    assert!(!deltas, "`nostream` keeps its tokens to itself");
}

#[tokio::test]
async fn a_long_history_goes_to_the_model_without_a_copy() {
    let text = "state: { messages: { reducer: messages } }\nnodes:\n  one: { chat_model: { model: keeper } }\nedges: [ { from: START, to: one } ]";
    let keeper = Keeper::default();
    let graph = graph_with(text, &[], &Registry::new().model("keeper", Arc::new(keeper.clone())));
    let input = value!({"messages": (0..500).map(|i| value!({"role": "user", "content": i.to_string()}).to_json()).collect::<Vec<_>>()});
    let ran = run(&graph, input, Mode::Values).await;
    let first = ran.parts.iter().find_map(|p| match &p.payload {
        Payload::Values(v) => v.snapshot.get("messages").cloned(),
        _ => None,
    });
    let asked = keeper.0.lock().unwrap().pop().unwrap();
    assert!(Value::List(asked.messages).same(&first.unwrap()), "the very list that the state holds");
}
