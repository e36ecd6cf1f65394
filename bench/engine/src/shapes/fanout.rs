//! N Sends into a subgraph of a dozen steps each.

use runloom_engine::{
    END, Error, Graph, Object, START, State, StateGraph, StateView, Value, command::Send, node, value,
};
use serde::{Deserialize, Serialize};

use super::Shape;

#[derive(State, Serialize, Deserialize)]
struct Overall {
    subjects: Value,
    #[state(append)]
    jokes: Value,
}

#[derive(State, Serialize, Deserialize)]
struct Joke {
    subject: Value,
    jokes: Value,
}

impl Joke {
    fn first(&self) -> &str {
        self.jokes.as_list().and_then(|l| l.get(0)).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A value as Python's `f"{value}"` writes it: the subjects are lists of letters, and both sides are to make the same text.
fn display(value: &Value) -> String {
    match value {
        Value::List(l) => {
            let mut text = String::with_capacity(l.len() * 5 + 16);
            text.push('[');
            for (i, item) in l.iter().enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                text.push('\'');
                text.push_str(item.as_str().unwrap_or_default());
                text.push('\'');
            }
            text.push(']');
            text
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// Texts are read as references, as Python's are, and written as the nodes make them.
pub fn shape(subjects: usize) -> Result<Shape, Error> {
    let graph = StateGraph::<Overall>::new("fanout_to_subgraph")
        .add_subgraph("generate_joke", joke()?)
        .add_conditional_edges(
            START,
            |state: Overall| -> Vec<Send> {
                let subjects = state.subjects.as_list().cloned().unwrap_or_default();
                let input = |s: &Value| Value::from(Object::from_iter([("subject", s.clone())]));
                subjects.iter().map(|s| Send { node: "generate_joke".into(), input: input(s) }).collect()
            },
            ["generate_joke"],
        )
        .add_edge("generate_joke", END)
        .compile()?;
    let subject = |i: usize| super::letters(i, 1000).map(|c| Value::from(c.to_string())).collect::<Vec<_>>();
    let input =
        Object::from_iter([("subjects", Value::from((0..subjects).map(subject).map(Value::from).collect::<Vec<_>>()))]);
    Ok(Shape { graph, input: input.into() })
}

fn joke() -> Result<Graph, Error> {
    StateGraph::<Joke>::new("joke")
        .input(["subject"])
        .output(["jokes"])
        .add_node(
            "edit",
            node(|state: StateView, _| async move {
                let subject = state.get("subject").map(display).unwrap_or_default();
                Ok(Joke::update().subject(Value::from(format!("{subject} - hohoho"))))
            }),
        )
        .add_node(
            "generate",
            node(|state: StateView, _| async move {
                let subject = state.get("subject").and_then(Value::as_str).unwrap_or_default();
                Ok(Joke::update().jokes(value!([format!("Joke about {subject}")])))
            }),
        )
        .add_node(
            "bump",
            node(|state: Joke, _| async move { Ok(Joke::update().jokes(value!([format!("{} a", state.first())]))) }),
        )
        .add_edge(START, "edit")
        .add_edge("edit", "generate")
        .add_edge("generate", "bump")
        .add_edge("generate", END)
        .add_conditional_edges(
            "bump",
            |state: Joke| if state.first().ends_with(" a a a a a a a a a a") { END } else { "bump" },
            ["bump", END],
        )
        .compile()
}
