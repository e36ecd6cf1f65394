//! Fifteen channels with nearly as many reducers, six nodes in a loop until the messages are more than N.

use std::sync::Arc;

use runloom_engine::{
    END, Error, List, NodeSpec, Object, Reducer, START, State, StateGraph, Update, Value, channel::ReducerFn, node,
};
use serde::{Deserialize, Serialize};

use super::Shape;

/// Its fields are shared values, as those of the Python dataclass are references.
#[derive(State, Serialize, Deserialize)]
struct Wide {
    #[state(append)]
    messages: Value,
    #[state(append)]
    trigger_events: Value,
    primary_issue_medium: Value,
    autoresponse: Value,
    issue: Value,
    relevant_rules: Value,
    memory_docs: Value,
    #[state(append)]
    categorizations: Value,
    #[state(append)]
    responses: Value,
    user_info: Value,
    crm_info: Value,
    email_thread_id: Value,
    #[state(merge)]
    slack_participants: Value,
    bot_id: Value,
    #[state(merge)]
    notified_assignees: Value,
}

const LISTS: [&str; 6] =
    ["messages", "trigger_events", "categorizations", "responses", "memory_docs", "relevant_rules"];
const OBJECTS: [&str; 6] =
    ["user_info", "crm_info", "slack_participants", "notified_assignees", "autoresponse", "issue"];

/// A node that reads one channel and writes what is in it to others; a text of so many letters where they hold texts.
fn read_write(read: fn(Wide) -> Value, write: &'static [&'static str], letters: usize) -> NodeSpec {
    node(move |state: Wide, _| async move {
        let value = read(state);
        let single = match &value {
            Value::List(l) => l.last().cloned().unwrap_or_default(),
            other => other.clone(),
        };
        let list = match value {
            Value::List(l) => l,
            other => List::from(vec![other]),
        };
        Ok(write.iter().fold(Update::new(), |update, name| match name {
            name if LISTS.contains(name) => update.set(*name, list.clone()),
            name if OBJECTS.contains(name) => update.set(*name, single.clone()),
            name => update.set(*name, random_text(letters)),
        }))
    })
}

fn random_text(letters: usize) -> String {
    let mut text = String::with_capacity(letters);
    while text.len() < letters {
        text.extend(
            uuid::Uuid::new_v4().as_bytes().iter().take(letters - text.len()).map(|b| char::from(b'a' + b % 26)),
        );
    }
    text
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::List(l) => !l.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => true,
    }
}

/// A closure as a reducer, as the Python state has lambdas.
fn keep(which: fn(Option<&Value>, &Value) -> bool) -> Reducer {
    let reduce: ReducerFn = Arc::new(move |held, new| match held {
        Some(held) if !which(Some(held), new) => Ok(held.clone()),
        _ => Ok(new.clone()),
    });
    Reducer::Custom(reduce)
}

/// Six rounds of the loop make 595 messages of 300.
pub fn shape(most: usize) -> Result<Shape, Error> {
    let truthy = || keep(|_, new| is_truthy(new));
    let given = || keep(|_, new| !new.is_null());
    let graph = StateGraph::<Wide>::new("wide_state")
        .reducer("primary_issue_medium", truthy())
        .reducer("autoresponse", keep(|_, _| true))
        .reducer("issue", truthy())
        .reducer("user_info", given())
        .reducer("crm_info", given())
        .reducer("email_thread_id", given())
        .add_node("one", read_write(|s| s.messages, &["trigger_events", "primary_issue_medium"], most))
        .add_node("two", read_write(|s| s.trigger_events, &["autoresponse", "issue"], most))
        .add_node("three", read_write(|s| s.autoresponse, &["relevant_rules"], most))
        .add_node("four", read_write(|s| s.trigger_events, &["categorizations", "responses", "memory_docs"], most))
        .add_node(
            "five",
            read_write(
                |s| s.categorizations,
                &["user_info", "crm_info", "email_thread_id", "slack_participants", "bot_id", "notified_assignees"],
                most,
            ),
        )
        .add_node("six", read_write(|s| s.responses, &["messages"], most))
        .add_edge(START, "one")
        .add_edge("one", "two")
        .add_edge("two", "three")
        .add_edge("two", "four")
        .add_join(["three", "four"], "five")
        .add_edge("five", "six")
        .add_conditional_edges(
            "six",
            move |state: Wide| if state.messages.as_list().map_or(0, List::len) > most { END } else { "one" },
            ["one", END],
        )
        .compile()?;
    Ok(Shape { graph, input: Object::from_iter([("messages", Value::from(vec![message()]))]).into() })
}

/// Five objects of five lists of 25 scalars.
fn message() -> Value {
    let key = |i: usize| i.to_string().repeat(10);
    let scalars = || {
        let five =
            ["hi?".repeat(10).into(), Value::Bool(true), Value::Int(1), Value::Int(6_327_816_386_138), Value::Null];
        Value::from((0..5).flat_map(|_| five.clone()).collect::<Vec<_>>())
    };
    let inner = || Object::from_iter((0..5).map(|j| (key(j), scalars())));
    Object::from_iter((0..5).map(|i| (key(i), inner()))).into()
}
