//! OpenAI's wire: what is sent, and what comes of an answer.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom_engine::{
    Object, Value,
    model::{ChatModel, ChatRequest, ToolSpec, Usage},
    value,
};
use runloom_fake_provider::{Answer, FakeProvider, openai};
use runloom_models::{KeySource, Provider, ProviderKind::OpenAi};
use serde_json::json;
use support::*;

#[tokio::test]
async fn text_comes_piece_by_piece_and_ends_with_usage_and_metadata() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("gpt", [openai::text(&["Hel", "lo", " world"])]);
    let model = model(&fake, OpenAi, "gpt");
    let said = call(&model, hello()).await;
    assert_eq!(said.texts(), ["Hel", "lo", " world"]);
    assert!(said.is_whole());
    let usage = Usage { input_tokens: 12, output_tokens: 7, cached_tokens: 4, reasoning_tokens: 3 };
    assert_eq!(said.usage(), usage);
    let metadata = said.metadata();
    assert_eq!(metadata.get_str("finish_reason"), Some("stop"));
    assert_eq!(metadata.get_str("model_name"), Some("told-1"));
    assert_eq!(metadata.get_str("model_provider"), Some("openai"));
    assert_eq!((model.name(), &*model.info().provider, &*model.info().model), ("ChatOpenAI", "openai", "gpt"));
}

#[tokio::test]
async fn a_request_says_what_the_conversation_says() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("my-model-high", [openai::text(&["ok"])]);
    let mut config = config(&fake, OpenAi, "my-model-high");
    for (name, value) in [
        ("temperature", value!(0.5)),
        ("max_tokens", value!(100)),
        ("top_p", value!(0.9)),
        ("stop", value!(["END"])),
        ("seed", value!(7)),
        ("response_format", value!("json")),
        ("tool_choice", value!("any")),
        ("extra_body", value!({"user": "u1"})),
    ] {
        config.options.set(OpenAi, name, &value).unwrap();
    }
    let Value::Object(metadata) = value!({"trace_context": {"traceparent": "00-aa-bb-01", "tracestate": "a=b"}}) else {
        panic!()
    };
    let request = ChatRequest {
        system: Some("Be brief.".into()),
        tools: vec![ToolSpec {
            name: "add".into(),
            description: "Adds.".into(),
            parameters: value!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        }],
        metadata,
        ..ask(value!([
            {"type": "human", "content": [{"type": "text", "text": "what is "}, {"type": "text", "text": "this?"}]},
            {"type": "human", "content": [{"type": "text", "text": "look"}, {"type": "image", "base64": "AAAA", "mime_type": "image/png"}]},
            {"type": "ai", "content": [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "I add."}],
             "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "c1"}, {"name": "add", "args": {"a": 2}, "id": "c2"}]},
            {"type": "tool", "content": "1", "tool_call_id": "c1"},
            {"type": "tool", "content": [{"type": "text", "text": "2"}], "tool_call_id": "c2", "status": "error"},
        ]))
    };
    assert!(call(&Provider::new(config).unwrap(), request).await.is_whole());
    let seen = fake.request(0).await;
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (Some("00-aa-bb-01"), Some("a=b")));
    let body = &seen.body;
    assert_eq!(body["model"], "my-model-high");
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "what is this?"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": "I add.", "tool_calls": [
                {"type": "function", "id": "c1", "function": {"name": "add", "arguments": "{\"a\":1}"}},
                {"type": "function", "id": "c2", "function": {"name": "add", "arguments": "{\"a\":2}"}},
            ]},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {"role": "tool", "content": "2", "tool_call_id": "c2"},
        ])
    );
    assert_eq!(body["tools"][0]["function"]["parameters"]["properties"]["a"]["type"], "integer");
    for (name, value) in [
        ("temperature", json!(0.5)),
        ("max_tokens", json!(100)),
        ("top_p", json!(0.9)),
        ("stop", json!(["END"])),
        ("seed", json!(7)),
        ("response_format", json!({"type": "json_object"})),
        ("tool_choice", json!("required")),
        ("user", json!("u1")),
        ("stream", json!(true)),
        ("stream_options", json!({"include_usage": true})),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_call_of_a_tool_comes_in_true_pieces_over_many_chunks() {
    let fake = FakeProvider::start().await.unwrap();
    let args = ["{\"ci", "ty\": ", "\"S", "F\"}"];
    let both = openai::calling(
        openai::calling(openai::begin(&["Let me look."]), 0, "call_a", "weather", &args),
        1,
        "call_b",
        "time",
        &["{}"],
    );
    fake.answers("gpt", [openai::end(both, "tool_calls")]);
    let said = call(&model(&fake, OpenAi, "gpt"), hello()).await;
    let pieces: Vec<_> =
        said.pieces.iter().flat_map(|d| &d.tool_calls).map(|c| (c.index, c.name.as_deref(), c.args.as_str())).collect();
    let expected = [
        (0, Some("weather"), ""),
        (0, None, args[0]),
        (0, None, args[1]),
        (0, None, args[2]),
        (0, None, args[3]),
        (1, Some("time"), ""),
        (1, None, "{}"),
    ];
    assert_eq!(pieces, expected);
    let whole = [("call_a", "weather", "{\"city\": \"SF\"}"), ("call_b", "time", "{}")];
    assert_eq!(said.calls(), whole.map(|(i, n, a)| (i.to_owned(), n.to_owned(), a.to_owned())));
    assert_eq!(said.metadata().get_str("finish_reason"), Some("tool_calls"));
}

#[tokio::test]
async fn calls_without_numbers_and_ids_are_told_apart() {
    let fake = FakeProvider::start().await.unwrap();
    let whole =
        |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let delta = json!({"tool_calls": [whole("x", "one"), whole("y", "two")]});
    let bare = json!({"tool_calls": [{"index": 5, "function": {"name": "three", "arguments": "{}"}}]});
    fake.answers(
        "gpt",
        [openai::end(
            openai::begin(&[]).data(openai::chunk(delta, None)).data(openai::chunk(bare, None)),
            "tool_calls",
        )],
    );
    let calls = call(&model(&fake, OpenAi, "gpt"), hello()).await.calls();
    assert_eq!(calls.iter().map(|c| &*c.1).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(calls[2].0.starts_with("call_"));
}

#[tokio::test]
async fn letters_are_whole_wherever_the_wire_is_cut() {
    let fake = FakeProvider::start().await.unwrap();
    for size in [1, 2, 3, 5, 7] {
        let name = format!("cut-{size}");
        fake.answers(&name, [openai::text(&["Grüße, 世界 ", "👩‍🚀 é"]).cut(size)]);
        let said = call(&model(&fake, OpenAi, &name), hello()).await;
        assert_eq!(said.text(), "Grüße, 世界 👩‍🚀 é", "{size}");
        assert!(said.is_whole());
    }
}

#[tokio::test]
async fn reasoning_images_and_refusals_come_as_what_they_are() {
    let fake = FakeProvider::start().await.unwrap();
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let answer = openai::begin(&[])
        .data(openai::chunk(json!({"reasoning_content": "hm, "}), None))
        .data(openai::chunk(json!({"reasoning": "yes"}), None))
        .data(openai::said("here: "))
        .data(openai::chunk(json!({"images": [image.clone()]}), None))
        .data(openai::chunk(json!({"refusal": "I would "}), None))
        .data(openai::chunk(json!({"refusal": "rather not"}), None));
    fake.answers("gpt", [openai::end(answer, "stop")]);
    let said = call(&model(&fake, OpenAi, "gpt"), hello()).await;
    assert_eq!((&*said.reasoning(), &*said.text()), ("hm, yes", "here: "));
    let blocks = value!([image, {"type": "refusal", "refusal": "I would rather not"}]);
    assert_eq!(Value::List(said.blocks()), blocks);
}

#[tokio::test]
async fn a_server_without_a_key_gets_none() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("local", [openai::text(&["ok"])]);
    // Not even the usual one: it is OpenAI's.
    let config = config(&fake, OpenAi, "local").key(KeySource::Usual);
    assert!(call(&Provider::new(config).unwrap(), hello()).await.is_whole());
    assert_eq!(fake.request(0).await.header("authorization"), None);
}

#[tokio::test]
async fn a_key_is_read_from_a_file_and_one_that_is_missing_is_named() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("gpt", [openai::text(&["ok"])]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let with = |key| Provider::new(config(&fake, OpenAi, "gpt").key(key)).unwrap();
    let model = with(KeySource::File(file.clone()));
    let missing = call(&model, hello()).await;
    let fault = missing.fault();
    assert!(
        !fault.retryable
            && fault.message.contains("api_key_file")
            && fault.to_string().starts_with("openai gpt: there is no key"),
        "{fault}"
    );
    std::fs::write(&file, "sk-from-a-file\n").unwrap();
    assert!(call(&model, hello()).await.is_whole());
    assert_eq!(fake.request(0).await.header("authorization"), Some("Bearer sk-from-a-file"));
    let unset = call(&with(KeySource::Env("RUNLOOM_TEST_NO_SUCH_API_KEY".into())), hello()).await;
    assert!(
        !unset.fault().retryable && unset.fault().message.contains("RUNLOOM_TEST_NO_SUCH_API_KEY"),
        "{:?}",
        unset.error
    );
    std::fs::write(&file, "two\nlines").unwrap();
    assert!(call(&model, hello()).await.fault().message.contains("line breaks"));
}

#[tokio::test]
async fn a_key_is_in_no_error_and_no_debug_output() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("gpt", [openai::error(401, &format!("Incorrect API key provided: {KEY}. Find yours elsewhere."))]);
    let model = model(&fake, OpenAi, "gpt");
    let said = call(&model, hello()).await;
    let fault = said.fault();
    assert_eq!(fault.to_string(), "openai gpt: 401 Unauthorized: Incorrect API key provided: …. Find yours elsewhere.");
    assert!(!fault.retryable);
    assert!(!format!("{model:?}").contains(KEY));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_sent() {
    let fake = FakeProvider::start().await.unwrap();
    let model = model(&fake, OpenAi, "gpt");
    let said = call(&model, ask(value!([{"type": "human", "content": [{"type": "smell"}]}]))).await;
    assert_eq!(said.fault().message, "message 1 of the prompt: a block of type `smell` cannot be sent to openai");
    let mut options = Object::default();
    options.insert("temperature", "warm");
    let said = call(&model, ChatRequest { options, ..hello() }).await;
    assert_eq!(said.fault().message, "option `temperature`: expected a number from 0 to 2, found `\"warm\"`");
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn a_server_that_leaves_the_end_mark_out_is_understood() {
    let fake = FakeProvider::start().await.unwrap();
    let answer: Answer = openai::begin(&["done"]).data(openai::chunk(json!({}), Some("stop")));
    fake.answers("gpt", [answer]);
    let said = call(&model(&fake, OpenAi, "gpt"), hello()).await;
    assert!(said.is_whole() && said.text() == "done", "{said:?}");
}
