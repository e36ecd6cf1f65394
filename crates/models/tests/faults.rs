//! What goes wrong at a provider: each ends in the right error, after as many attempts as it deserves.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use runloom_engine::model::ChatModel;
use runloom_fake_provider::{Answer, FakeProvider, Piece, anthropic, openai};
use runloom_models::{
    Provider,
    ProviderKind::{self, Anthropic, OpenAi},
};
use serde_json::json;
use support::*;

/// Calls a model that answers so.
async fn told(kind: ProviderKind, answers: impl IntoIterator<Item = Answer>) -> (Said, FakeProvider) {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", answers);
    let said = call(&model(&fake, kind, "m"), hello()).await;
    (said, fake)
}

#[tokio::test]
async fn a_429_is_tried_again_when_the_provider_said_so() {
    let busy = openai::error(429, "Slow down.").header("retry-after", "1");
    let began = Instant::now();
    let (said, fake) = told(OpenAi, [busy, openai::text(&["now"])]).await;
    assert!(said.is_whole() && said.text() == "now", "{said:?}");
    let waited = fake.request(1).await.at - fake.request(0).await.at;
    assert!(waited >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn the_time_to_wait_may_be_milliseconds_or_a_date() {
    let date = httpdate(SystemTime::now() + Duration::from_secs(2));
    for (name, value, least) in [("retry-after-ms", "30".to_owned(), 30), ("retry-after", date, 500)] {
        let (said, fake) = told(OpenAi, [openai::error(503, "").header(name, &value), openai::text(&["now"])]).await;
        assert!(said.is_whole(), "{said:?}");
        let waited = fake.request(1).await.at - fake.request(0).await.at;
        assert!(waited >= Duration::from_millis(least) && waited < Duration::from_secs(3), "{name}: {waited:?}");
    }
}

fn httpdate(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[tokio::test]
async fn a_provider_that_wants_to_be_left_alone_for_long_is_and_the_error_says_how_long() {
    let (said, fake) = told(OpenAi, [openai::error(429, "Come back later.").header("retry-after", "7200")]).await;
    let fault = said.fault();
    assert!(fault.retryable && fault.retry_after == Some(Duration::from_secs(7200)), "{fault:?}");
    assert!(fault.message.contains("Come back later.") && fault.message.contains("7200 s"), "{fault}");
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn an_overloaded_provider_is_tried_again_and_then_given_up() {
    let busy = || anthropic::error(529, "overloaded_error", "Overloaded").header("retry-after-ms", "5");
    let (said, _) = told(Anthropic, [busy(), busy(), anthropic::text(&["at last"])]).await;
    assert!(said.is_whole() && said.text() == "at last", "{said:?}");
    let (said, fake) = told(Anthropic, [busy()]).await;
    assert_eq!(said.fault().to_string(), "anthropic m: 529: Overloaded (tried 3 times)");
    assert!(said.fault().retryable);
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 404] {
        let (said, fake) = told(OpenAi, [openai::error(status, "No.")]).await;
        assert!(!said.fault().retryable && said.fault().message.ends_with("No."), "{said:?}");
        assert_eq!(fake.count(), 1);
    }
    let broke = json!({"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}});
    let (said, fake) = told(OpenAi, [Answer::json(429, &broke)]).await;
    assert!(!said.fault().retryable && fake.count() == 1, "{said:?}");
    let away = openai::error(307, "").header("location", "http://127.0.0.1:1/steal");
    let (said, fake) = told(OpenAi, [away]).await;
    assert!(said.fault().message.contains("redirects are not followed") && fake.count() == 1, "{said:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_first_token_is_made_again() {
    let (said, fake) =
        told(OpenAi, [Answer::hang_up(), openai::begin(&[]).piece(Piece::HangUp), openai::text(&["now"])]).await;
    assert!(said.is_whole() && said.text() == "now", "{said:?}");
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn one_that_breaks_after_a_token_is_an_error_that_may_pass() {
    for kind in [OpenAi, Anthropic] {
        let begun = match kind {
            OpenAi => openai::begin(&["Once", " upon"]),
            _ => anthropic::said(anthropic::begin(), 0, &["Once", " upon"]),
        };
        let (said, fake) = told(kind, [begun.piece(Piece::HangUp)]).await;
        assert_eq!(said.text(), "Once upon");
        let fault = said.fault();
        assert!(fault.retryable && fault.message.starts_with("the connection broke"), "{fault}");
        assert_eq!(fake.count(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_its_end_is_an_error() {
    for (kind, begun) in [
        (OpenAi, openai::begin(&["Once"])),
        (Anthropic, anthropic::said(anthropic::begin(), 0, &["Once"])),
        (ProviderKind::Gemini, runloom_fake_provider::gemini::parts(Answer::events(), json!([{"text": "Once"}]), None)),
        (
            ProviderKind::Ollama,
            runloom_fake_provider::ollama::line(Answer::events(), json!({"role": "assistant", "content": "Once"})),
        ),
    ] {
        let (said, fake) = told(kind, [begun]).await;
        assert_eq!(said.text(), "Once", "{kind:?}");
        let fault = said.fault();
        assert!(fault.retryable && fault.message == "its answer ended before it was complete", "{kind:?}: {fault}");
        assert_eq!(fake.count(), 1);
    }
}

#[tokio::test]
async fn an_empty_answer_is_tried_again_and_then_an_error() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [Answer::events()]);
    let mut config = config(&fake, OpenAi, "m");
    config.max_retries = 1;
    let said = call(&Provider::new(config).unwrap(), hello()).await;
    assert_eq!(
        said.fault().message,
        "its answer ended before it was complete; does `base_url` name a server that streams? (tried 2 times)"
    );
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_tried_again_and_then_an_error() {
    let fake = FakeProvider::start().await.unwrap();
    // A port that nobody listens at.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut config = config(&fake, OpenAi, "m").base_url(format!("http://127.0.0.1:{port}/v1"));
    config.max_retries = 1;
    let said = call(&Provider::new(config).unwrap(), hello()).await;
    let fault = said.fault();
    assert!(fault.retryable && fault.message.starts_with("it could not be reached: "), "{fault}");
    assert!(fault.message.ends_with("(tried 2 times)"), "{fault}");
}

#[tokio::test]
async fn a_stall_before_the_first_token_and_one_in_the_middle_have_limits_of_their_own() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("never", [openai::begin(&[]).piece(Piece::Stall)]);
    fake.answers("mute", [Answer::events().piece(Piece::Stall)]);
    fake.answers("stops", [openai::begin(&["Once"]).piece(Piece::Stall)]);
    let with = |name| {
        let mut config = config(&fake, OpenAi, name);
        config.waits.first_token = Duration::from_secs(1);
        config.waits.silence = Duration::from_millis(80);
        Provider::new(config).unwrap()
    };
    for (n, name) in ["never", "mute"].into_iter().enumerate() {
        let said = call(&with(name), hello()).await;
        let fault = said.fault();
        assert!(fault.retryable && fault.message.contains("1s (`first_token_timeout_ms`)"), "{fault}");
        soon(fake.closed(n)).await;
    }
    let said = call(&with("stops"), hello()).await;
    assert_eq!(said.text(), "Once");
    let fault = said.fault();
    assert!(
        fault.retryable && fault.message.contains("80ms in the middle of its answer (`silence_timeout_ms`)"),
        "{fault}"
    );
    soon(fake.closed(2)).await;
    assert_eq!(fake.count(), 3, "a stall is not tried again by itself");
}

#[tokio::test]
async fn pings_are_no_silence() {
    let fake = FakeProvider::start().await.unwrap();
    let ping = |answer: Answer| anthropic::event(answer, json!({"type": "ping"})).bytes(": still here\n\n");
    let begun = anthropic::said(anthropic::begin(), 0, &["Once"]);
    let slow =
        anthropic::end((0..8).fold(begun, |answer, _| ping(answer)), "end_turn").slowly(Duration::from_millis(40));
    fake.answers("m", [slow]);
    let mut config = config(&fake, Anthropic, "m");
    config.waits.silence = Duration::from_millis(200);
    let said = call(&Provider::new(config).unwrap(), hello()).await;
    assert!(said.is_whole(), "{said:?}");
}

#[tokio::test]
async fn garbage_is_an_error_that_asks_for_the_address() {
    for garbage in [
        openai::begin(&["Once"]).data("{\"choices\": [{\"delta\": {\"conte"),
        openai::begin(&["Once"]).data("<html>"),
        openai::begin(&["Once"]).bytes(b"data: \xff\xfe\xfd\n\n".to_vec()),
    ] {
        let (said, fake) = told(OpenAi, [garbage]).await;
        assert!(said.fault().message.starts_with("what it sent cannot be read"), "{said:?}");
        assert_eq!(fake.count(), 1);
    }
    let html = Answer { headers: vec![("content-type".into(), "text/html".into())], ..Answer::events() };
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [html.bytes("<html><body>Welcome to nginx!</body></html>")]);
    let mut config = config(&fake, OpenAi, "m");
    config.max_retries = 0;
    let said = call(&Provider::new(config).unwrap(), hello()).await;
    assert_eq!(
        said.fault().message,
        "its answer ended before it was complete; does `base_url` name a server that streams?"
    );
}

#[tokio::test]
async fn an_error_in_the_middle_is_an_error_with_its_message() {
    let broken = anthropic::broken(anthropic::said(anthropic::begin(), 0, &["Once"]), "overloaded_error", "Overloaded");
    let (said, fake) = told(Anthropic, [broken]).await;
    assert_eq!((&*said.text(), &*said.fault().message), ("Once", "it broke off with an error: Overloaded"));
    assert!(said.fault().retryable && fake.count() == 1);
    let error = json!({"error": {"message": "The server had an error.", "type": "server_error"}});
    let (said, _) = told(OpenAi, [openai::begin(&["Once"]).data(error)]).await;
    assert_eq!(said.fault().message, "it broke off with an error: The server had an error.");
    // Before a token it is tried again.
    let early = anthropic::broken(anthropic::begin(), "overloaded_error", "Overloaded");
    let (said, fake) = told(Anthropic, [early, anthropic::text(&["now"])]).await;
    assert!(said.is_whole() && fake.count() == 2, "{said:?}");
    let line = Answer::events().bytes("{\"error\": \"model runner has stopped\"}\n");
    let (said, _) = told(
        ProviderKind::Ollama,
        [
            runloom_fake_provider::ollama::line(Answer::events(), json!({"role": "assistant", "content": "Once"}))
                .bytes("{\"error\": \"model runner has stopped\"}\n"),
            line,
        ],
    )
    .await;
    assert_eq!(said.fault().message, "it broke off with an error: model runner has stopped");
}

#[tokio::test]
async fn slow_tokens_come_one_by_one() {
    let fake = FakeProvider::start().await.unwrap();
    let gated = openai::begin(&["one"]).piece(Piece::Gate).data(openai::said("two"));
    fake.answers("m", [openai::end(gated, "stop")]);
    let mut stream = model(&fake, OpenAi, "m").stream(hello());
    // The first is here while the second is not yet made.
    assert_eq!(soon(stream.next()).await.unwrap().unwrap().text, "one");
    fake.open_gate();
    assert_eq!(soon(stream.next()).await.unwrap().unwrap().text, "two");
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection_at_once_in_every_phase() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("mute", [Answer { pieces: vec![Piece::Stall], ..Answer::events() }]);
    fake.answers("begun", [openai::begin(&["Once"]).piece(Piece::Stall)]);
    let mut took = Vec::new();
    for (n, name) in ["mute", "begun", "mute", "begun", "mute", "begun", "begun"].into_iter().enumerate() {
        let mut stream = model(&fake, OpenAi, name).stream(hello());
        if name == "begun" {
            assert_eq!(soon(stream.next()).await.unwrap().unwrap().text, "Once");
        } else {
            let poll = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
            assert!(poll.is_err(), "nothing was said");
            soon(fake.request(n)).await;
        }
        let dropped = Instant::now();
        drop(stream);
        took.push(soon(fake.closed(n)).await - dropped);
    }
    took.sort();
    println!("closed after {took:?}");
    assert!(took[took.len() / 2] < Duration::from_millis(50), "{took:?}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [openai::text(&["ok"])]);
    let model = model(&fake, OpenAi, "m");
    for _ in 0..5 {
        assert!(call(&model, hello()).await.is_whole());
    }
    assert!(fake.connections() < 5, "{}", fake.connections());
}
