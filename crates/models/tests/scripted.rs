//! The scripted model: what it says, in which pieces, and when.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use runloom_engine::{
    Value,
    model::{ChatModel, ChatRequest, Delta, Usage},
    value,
};
use runloom_models::{ChunkBy, Error, Response, Scripted, ToolCall};

async fn say(model: &Scripted, messages: Vec<Value>) -> Vec<Delta> {
    let request = ChatRequest { messages: messages.into(), ..ChatRequest::default() };
    model.stream(request).map(|d| d.expect("a scripted model does not fail")).collect().await
}

fn texts(deltas: &[Delta]) -> Vec<&str> {
    deltas.iter().map(|d| d.text.as_str()).collect()
}

fn call() -> ToolCall {
    ToolCall { name: "get_weather".into(), args: value!({"city": "SF", "days": [1, 2]}), id: Some("call_1".into()) }
}

#[tokio::test]
async fn words_and_white_space_are_chunks_then_comes_an_empty_last_one() {
    let model = Scripted::new([Response::text("It is  sunny\nin SF.")]).unwrap();
    let deltas = say(&model, vec![]).await;
    assert_eq!(texts(&deltas), ["It", " ", "is", "  ", "sunny", "\n", "in", " ", "SF.", ""]);
    assert!(deltas.iter().rev().skip(1).all(|d| !d.last), "only the last chunk is the last");
    assert!(deltas.last().unwrap().last);
}

#[tokio::test]
async fn a_text_can_be_cut_by_characters_or_not_at_all() {
    let model = Scripted::new([Response::text("né 😀")]).unwrap();
    assert_eq!(texts(&say(&model.clone().chunk(ChunkBy::Chars), vec![]).await), ["n", "é", " ", "😀", ""]);
    assert_eq!(texts(&say(&model.chunk(ChunkBy::Whole), vec![]).await), ["né 😀", ""]);
}

#[tokio::test]
async fn each_tool_call_is_one_chunk_with_the_text_of_its_arguments_as_python_writes_it() {
    let other = ToolCall { name: "other".into(), args: value!({}), id: None };
    let model = Scripted::new([Response::text("").call(call()).call(other)]).unwrap();
    let deltas = say(&model, vec![]).await;
    assert_eq!(deltas.len(), 3);
    let (first, second) = (&deltas[0].tool_calls[0], &deltas[1].tool_calls[0]);
    assert_eq!(first.args, r#"{"city": "SF", "days": [1, 2]}"#);
    assert_eq!((first.index, first.id.as_deref(), first.name.as_deref()), (0, Some("call_1"), Some("get_weather")));
    assert_eq!((second.index, second.id.as_deref(), second.args.as_str()), (1, Some("call_0_1"), "{}"));
    assert_eq!(deltas[2], Delta::end());
}

#[tokio::test]
async fn the_answer_depends_on_how_often_the_model_has_spoken_and_on_nothing_else() {
    let model = Scripted::new(["one", "two", "three"].map(Response::text)).unwrap();
    let human = value!({"type": "human", "content": "?"});
    let ai = value!({"type": "ai", "content": "!"});
    let tool = value!({"type": "tool", "content": "!"});
    let told = |n: usize| {
        let mut prompt = vec![human.clone(), tool.clone()];
        prompt.extend(std::iter::repeat_n(ai.clone(), n));
        prompt
    };
    for _ in 0..2 {
        for (n, text) in [(0, "one"), (1, "two"), (2, "three"), (3, "one"), (7, "two")] {
            assert_eq!(texts(&say(&model, told(n)).await), [text, ""]);
        }
    }
}

#[tokio::test]
async fn reasoning_comes_before_the_text_and_usage_with_the_end() {
    let usage = Usage { input_tokens: 3, output_tokens: 5, ..Usage::default() };
    let response = Response { reasoning: "so be it".into(), usage: Some(usage), ..Response::text("yes") };
    let deltas = say(&Scripted::new([response]).unwrap(), vec![]).await;
    let reasoning: String = deltas.iter().map(|d| d.reasoning.as_str()).collect();
    assert_eq!(reasoning, "so be it");
    assert_eq!(deltas[5].text, "yes");
    assert_eq!((deltas.len(), deltas[6].usage, deltas[6].last), (7, Some(usage), true));
    assert!(deltas[..6].iter().all(|d| d.usage.is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_delay_passes_before_each_chunk_of_text_and_before_nothing_else() {
    let model = Scripted::new([Response::text("a b").call(call())]).unwrap().delay(Duration::from_millis(30));
    let mut stream = model.stream(ChatRequest::default());
    assert!(stream.next().now_or_never().is_none(), "the first chunk waits");
    let start = tokio::time::Instant::now();
    let rest: Vec<_> = stream.collect().await;
    assert_eq!(start.elapsed().as_millis() / 30, 3, "three chunks of text, and nothing waits beside them");
    assert_eq!(rest.len(), 5);
}

#[test]
fn without_a_response_there_is_no_model() {
    assert_eq!(Scripted::new([]).unwrap_err(), Error::NoResponses);
}

#[test]
fn it_goes_by_the_names_that_users_filter_on() {
    let model = Scripted::new([Response::text("x")]).unwrap();
    assert_eq!(model.name(), "ScriptedModel");
    assert_eq!((&*model.info().provider, &*model.info().model), ("scriptedmodel", "scripted"));
}
