//! Anthropic's, Gemini's and Ollama's wires: what is sent, and what comes of an answer.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom_engine::{
    Value,
    model::{ChatModel, ChatRequest, ToolSpec, Usage},
    value,
};
use runloom_fake_provider::{Answer, FakeProvider, anthropic, gemini, ollama};
use runloom_models::{
    Provider,
    ProviderKind::{Anthropic, Gemini, Ollama},
};
use serde_json::json;
use support::*;

/// A conversation with an image, a call and its failed result, after what the model said before.
fn conversation(said: Value) -> ChatRequest {
    let parameters = value!({"type": "object", "properties": {"city": {"type": "string"}}});
    let Value::List(mut messages) = value!([{"type": "human", "content": [
        {"type": "text", "text": "look"}, {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
    ]}]) else {
        panic!()
    };
    messages.push(said);
    messages.push(value!({"type": "tool", "content": "no such city", "tool_call_id": "c1", "status": "error"}));
    messages.push(value!({"type": "tool", "content": "fine", "tool_call_id": "c2"}));
    ChatRequest {
        system: Some("Be brief.".into()),
        messages,
        tools: vec![ToolSpec { name: "weather".into(), description: "The weather.".into(), parameters }],
        ..ChatRequest::default()
    }
}

/// What a model said, as the engine puts it together.
fn put_together(said: &Said) -> Value {
    let calls: Vec<Value> = said
        .calls()
        .into_iter()
        .map(|(id, name, args)| value!({"id": id, "name": name, "args": Value::parse(&args).unwrap()}))
        .collect();
    value!({"type": "ai", "content": said.text(), "tool_calls": calls, "response_metadata": said.metadata()})
}

fn two_calls() -> Value {
    value!({"type": "ai", "content": "", "tool_calls": [
        {"id": "c1", "name": "weather", "args": {"city": "X"}}, {"id": "c2", "name": "weather", "args": {"city": "SF"}},
    ]})
}

#[tokio::test]
async fn anthropics_text_thinking_and_calls_come_in_pieces_and_go_back_signed() {
    let fake = FakeProvider::start().await.unwrap();
    let thought = anthropic::thinking(anthropic::begin(), 0, &["hm, ", "yes"], "sig-1");
    let redacted = anthropic::block(thought, 1, json!({"type": "redacted_thinking", "data": "xyz"}), []);
    let text = anthropic::said(redacted, 2, &["Let me ", "look."]);
    let calls = anthropic::calling(
        anthropic::calling(text, 3, "c1", "weather", &["{\"city\"", ": \"X\"}"]),
        4,
        "c2",
        "weather",
        &[],
    );
    fake.answers("claude", [anthropic::end(calls, "tool_use"), anthropic::text(&["done"])]);
    let mut config = config(&fake, Anthropic, "claude");
    config.options.set(Anthropic, "reasoning_effort", &value!(2000)).unwrap();
    config.options.set(Anthropic, "max_tokens", &value!(5000)).unwrap();
    let model = Provider::new(config).unwrap();
    let said = call(&model, hello()).await;
    assert!(said.is_whole(), "{said:?}");
    assert_eq!((&*said.reasoning(), said.texts()), ("hm, yes", vec!["Let me ", "look."]));
    let whole = [("c1", "weather", "{\"city\": \"X\"}"), ("c2", "weather", "")];
    assert_eq!(said.calls(), whole.map(|(i, n, a)| (i.to_owned(), n.to_owned(), a.to_owned())));
    let pieces: Vec<_> = said.pieces.iter().flat_map(|d| &d.tool_calls).map(|c| (c.index, c.args.as_str())).collect();
    assert_eq!(pieces, [(0, ""), (0, "{\"city\""), (0, ": \"X\"}"), (1, "")]);
    assert_eq!(said.usage(), Usage { input_tokens: 10, output_tokens: 9, cached_tokens: 3, reasoning_tokens: 0 });
    assert_eq!(said.metadata().get_str("stop_reason"), Some("tool_use"));
    assert_eq!((model.name(), &*model.info().provider), ("ChatAnthropic", "anthropic"));

    let mut before = said;
    before
        .pieces
        .iter_mut()
        .flat_map(|d| &mut d.tool_calls)
        .filter(|c| c.index == 1)
        .for_each(|c| c.args = "{}".to_owned());
    assert!(call(&model, conversation(put_together(&before))).await.is_whole());
    let seen = fake.request(1).await;
    assert_eq!((&*seen.path, seen.header("x-api-key")), ("/v1/messages", Some(KEY)));
    let body = &seen.body;
    assert_eq!((&body["system"], &body["max_tokens"]), (&json!("Be brief."), &json!(5000)));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm, yes", "signature": "sig-1"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "X"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "no such city", "is_error": true},
                {"type": "tool_result", "tool_use_id": "c2", "content": "fine"},
            ]},
        ])
    );
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
}

#[tokio::test]
async fn geminis_text_images_and_calls_come_as_they_are_and_go_back_signed() {
    let fake = FakeProvider::start().await.unwrap();
    let said = gemini::parts(Answer::events(), json!([{"text": "hm", "thought": true}]), None);
    let said = gemini::parts(
        said,
        json!([{"text": "Look: "}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]),
        None,
    );
    let args = json!({"city": "X"});
    let calls = json!([
        {"functionCall": {"name": "weather", "args": args}, "thoughtSignature": "sig-1"},
        {"functionCall": {"name": "weather", "args": {}}},
    ]);
    fake.answers("gemini-2.5-flash", [gemini::parts(said, calls, Some("STOP")), gemini::text(&["done"])]);
    let model = model(&fake, Gemini, "gemini-2.5-flash");
    let said = call(&model, hello()).await;
    assert!(said.is_whole(), "{said:?}");
    assert_eq!((&*said.reasoning(), &*said.text()), ("hm", "Look: "));
    assert_eq!(Value::List(said.blocks()), value!([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}]));
    let calls = said.calls();
    assert_eq!(
        calls.iter().map(|c| (&*c.1, &*c.2)).collect::<Vec<_>>(),
        [("weather", "{\"city\":\"X\"}"), ("weather", "{}")]
    );
    assert_ne!(calls[0].0, calls[1].0);
    assert_eq!(said.usage(), Usage { input_tokens: 11, output_tokens: 6, cached_tokens: 1, reasoning_tokens: 2 });
    assert_eq!(said.metadata().get_str("finish_reason"), Some("STOP"));
    assert_eq!((model.name(), &*model.info().provider), ("ChatGoogleGenerativeAI", "google_genai"));

    let mut request = conversation(put_together(&said));
    let results = [("no such city", &calls[0].0), ("fine", &calls[1].0)];
    for (at, (text, id)) in results.into_iter().enumerate() {
        request.messages.set(at + 2, value!({"type": "tool", "content": text, "tool_call_id": id.as_str()}));
    }
    assert!(call(&model, request).await.is_whole());
    let seen = fake.request(1).await;
    assert_eq!(seen.path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(seen.header("x-goog-api-key"), Some(KEY));
    let contents = &seen.body["contents"];
    assert_eq!(contents[0]["parts"][1]["inline_data"], json!({"mime_type": "image/png", "data": "AAAA"}));
    let text = contents[1].to_string();
    assert!(text.contains("\"thoughtSignature\":\"sig-1\"") && text.contains("\"functionCall\""), "{text}");
    let results = contents[2].to_string();
    assert!(results.contains("no such city") && results.contains("\"name\":\"weather\""), "{results}");
    assert_eq!(seen.body["systemInstruction"]["parts"][0]["text"], "Be brief.");
}

#[tokio::test]
async fn ollamas_lines_become_an_answer() {
    let fake = FakeProvider::start().await.unwrap();
    let call_line = json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "SF"}}}]});
    let start = ollama::line(Answer::events(), json!({"role": "assistant", "content": "", "thinking": "hm"}));
    let said = ollama::end(ollama::line(
        ollama::line(start, json!({"role": "assistant", "content": "Let me look: ü"})),
        call_line,
    ));
    fake.answers("qwen3", [said.cut(3), ollama::text(&["done"])]);
    let model = model(&fake, Ollama, "qwen3");
    let said = call(&model, hello()).await;
    assert!(said.is_whole(), "{said:?}");
    assert_eq!((&*said.reasoning(), &*said.text()), ("hm", "Let me look: ü"));
    assert_eq!(said.calls()[0].2, "{\"city\":\"SF\"}");
    assert_eq!(said.usage(), Usage { input_tokens: 8, output_tokens: 3, ..Usage::default() });
    assert_eq!(said.metadata().get_str("done_reason"), Some("stop"));
    assert!(call(&model, conversation(two_calls())).await.is_whole());
    let seen = fake.request(1).await;
    assert_eq!((&*seen.path, seen.header("authorization")), ("/api/chat", Some(&*format!("Bearer {KEY}"))));
    let messages = &seen.body["messages"];
    assert_eq!(messages[1], json!({"role": "user", "content": "look", "images": ["AAAA"]}));
    assert_eq!((&messages[3]["content"], &messages[4]["content"]), (&json!("no such city"), &json!("fine")));
    assert_eq!((model.name(), &*model.info().provider), ("ChatOllama", "ollama"));
}

#[tokio::test]
async fn letters_are_whole_wherever_each_wire_is_cut() {
    let fake = FakeProvider::start().await.unwrap();
    let words = ["Grüße, 世", "界 👩‍🚀"];
    for (kind, answer) in
        [(Anthropic, anthropic::text(&words)), (Gemini, gemini::text(&words)), (Ollama, ollama::text(&words))]
    {
        let name = format!("cut-{kind:?}");
        fake.answers(&name, [answer.cut(5)]);
        let said = call(&model(&fake, kind, &name), hello()).await;
        assert!(said.is_whole() && said.text() == words.concat(), "{kind:?}: {said:?}");
    }
}
