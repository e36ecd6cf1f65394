//! Schemas of answers: shown with the question, and an answer that does not match leaves it open.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use runloom_engine::{channel::ChannelSpec, checkpoint::MemoryCheckpointer, *};

fn is_integer(_: &Value, answer: &Value) -> Result<(), String> {
    if answer.as_u64().is_some() { Ok(()) } else { Err(format!("{answer} is not an integer")) }
}

#[tokio::test]
async fn an_answer_that_does_not_match_leaves_the_question_open() {
    let mut b = GraphBuilder::new("age");
    b.add_channel(ChannelSpec::new("age"));
    let ask = node(|_: StateView, cx: Context| async move {
        let age = cx.interrupt_with("how old?", value!({"type": "integer"}))?;
        Ok(Update::new().set("age", age))
    });
    b.add_node("ask", ask).add_edge(START, "ask");
    let graph = b.compile().unwrap().with_runtime(Runtime {
        checkpointer: Some(Arc::new(MemoryCheckpointer::default())),
        check_answer: Some(is_integer),
        ..Runtime::default()
    });
    let on = || RunConfig::thread(ThreadId(uuid::Uuid::nil()));
    let stopped = graph.invoke(value!({}), on()).await.unwrap();
    let question = stopped.interrupts[0].to_value();
    assert_eq!(question.get("response_schema"), Some(&value!({"type": "integer"})));
    let error = graph.invoke(Command::resume("old"), on()).await.unwrap_err();
    assert_eq!(error.kind(), "ValidationError");
    assert!(error.to_string().contains("does not match its schema"), "{error}");
    let done = graph.invoke(Command::resume(41), on()).await.unwrap();
    assert_eq!(done.values.get("age"), Some(&value!(41)));
}
