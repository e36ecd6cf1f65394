//! A model that calls a tool N times and then answers: an agent and its tools, as LangGraph's prebuilt one is built.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::stream::{self, BoxStream, StreamExt};
use runloom_engine::{
    Command, Context, END, Error, Goto, NodeError, Object, Output, START, State, StateGraph, StateView, Value,
    command::Send,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, ToolCallDelta, ToolSpec},
    node, value,
};
use serde::{Deserialize, Serialize};

use super::Shape;

#[derive(State, Serialize, Deserialize)]
struct Chat {
    #[state(messages)]
    messages: Value,
}

/// Gives its answers in turn, each whole.
struct InTurn {
    answers: Vec<Delta>,
    next: AtomicUsize,
}

impl ChatModel for InTurn {
    fn name(&self) -> &str {
        "InTurn"
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "inturn".into(), model: "inturn".into() }
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.answers.len();
        stream::iter([Ok(self.answers[at].clone())]).boxed()
    }
}

const TOOL: &str = "0b54d2f1-7c41-4f0e-9f0b-6f1f3c8d2a55";

/// Text as long as a UUID, of a seed.
fn id(seed: usize) -> String {
    super::letters(seed, 36).collect()
}

/// The model is called through the run's context, so that its tokens would be told where somebody asks for them; each
/// tool call is a Send with the state beside it.
pub fn shape(calls: usize) -> Result<Shape, Error> {
    let call = |i: usize| Delta {
        tool_calls: vec![ToolCallDelta {
            index: 0,
            id: Some(id(i).into()),
            name: Some(TOOL.into()),
            args: value!({"query": id(i + 1000).repeat(100)}).to_string(),
        }],
        last: true,
        ..Delta::default()
    };
    let answers = (0..calls).map(call).chain([Delta { last: true, ..Delta::text("answer".repeat(100)) }]).collect();
    let model: Arc<dyn ChatModel> = Arc::new(InTurn { answers, next: 0.into() });
    let tools = vec![ToolSpec { name: TOOL.into(), description: "".into(), parameters: value!({"type": "object"}) }];

    let agent = move |state: Chat, cx: Context| {
        let (model, tools) = (model.clone(), tools.clone());
        async move {
            let messages = state.messages.as_list().cloned().unwrap_or_default();
            let request = ChatRequest { messages, tools, ..ChatRequest::default() };
            let message = cx.chat(&*model, request, &[]).await?;
            Ok(Chat::update().messages(Value::from(vec![message])))
        }
    };
    let graph = StateGraph::<Chat>::new("react_agent")
        .add_node("agent", node(agent))
        .add_node("tools", node(tool))
        .add_edge(START, "agent")
        .add_conditional_edges("agent", called, ["tools", END])
        .add_edge("tools", "agent")
        .compile()?;
    Ok(Shape { graph, input: value!({"messages": [{"role": "user", "content": "hi?"}]}) })
}

/// A Send for each tool call of the last message; the end where it has none.
fn called(state: Chat) -> Vec<Goto> {
    let last = state.messages.as_list().and_then(|l| l.last());
    let calls = last.and_then(|m| m.get("tool_calls")?.as_list()).filter(|l| !l.is_empty());
    let Some(calls) = calls else { return vec![END.into()] };
    let input = |call: &Value| Object::from_iter([("tool_call", call.clone()), ("state", value_of(&state.messages))]);
    calls.iter().map(|call| Goto::Send(Send { node: "tools".into(), input: input(call).into() })).collect()
}

fn value_of(messages: &Value) -> Value {
    Value::Object([("messages", messages.clone())].into_iter().collect())
}

/// Runs the one tool there is.
async fn tool(input: StateView, cx: Context) -> Result<Output, NodeError> {
    let call = input.get("tool_call").cloned().unwrap_or_default();
    let query = call.get("args").and_then(|a| a.get_str("query"));
    let query = query.ok_or_else(|| NodeError::new("ValueError", "a tool call without a query"))?;
    let args = call.get("args").cloned().unwrap_or_default();
    let output =
        cx.tool(TOOL, args, async { Ok(Value::from(format!("result for query: {query}").repeat(10))) }).await?;
    let message = Object::from_iter([
        ("type", Value::from("tool")),
        ("content", output),
        ("additional_kwargs", Value::object()),
        ("response_metadata", Value::object()),
        ("name", Value::from(TOOL)),
        ("tool_call_id", call.get("id").cloned().unwrap_or_default()),
    ]);
    Ok(Command::new().update(Chat::update().messages(Value::from(vec![Value::from(message)])).into()).into())
}
