//! Tasks side by side: commands to the parent, channels shared with a subgraph, several open questions.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Ran, graph, graph_with, run, run_with, thread};
use runloom_document::Registry;
use runloom_engine::{
    Answer, Command, Graph, RunConfig, Value,
    stream::{Mode, Modes, Payload, UpdatePart},
    value,
};

const NOTES: &str = "notes: { reducer: append }, a: {}, b: {}, c: {}";

/// A graph around one whose nodes are given, with the places that its commands go to.
fn around(inner: &str) -> Graph {
    let inner = format!("hidden: true\nstate: {{ {NOTES} }}\n{inner}");
    let outer = format!(
        "state: {{ {NOTES} }}\nnodes:\n  agent: {{ subgraph: inner, destinations: [ review, other ] }}\n  review: {{ update: {{ notes: '[\"review\"]' }} }}\n  other: {{ update: {{ notes: '[\"other\"]' }} }}\nedges: [ {{ from: START, to: agent }} ]"
    );
    graph_with(&outer, &[("inner", &inner)], &Registry::new())
}

#[tokio::test]
async fn commands_that_parallel_tasks_send_to_the_parent_are_all_taken_in_the_order_of_the_tasks() {
    let g = around(
        r#"
nodes:
  ta: { steps: [ { sleep_ms: 20 }, { command: { parent: true, goto: '"review"', update: { a: true, notes: '["from a"]' } } } ] }
  tb: { command: { parent: true, goto: '"review"', update: { b: true, notes: '["from b"]' } } }
  tc: { command: { parent: true, goto: '"other"', update: { c: true, notes: '["from c"]' } } }
edges: [ { from: START, to: [ta, tb, tc] } ]
"#,
    );
    let ran = run(&g, value!({"notes": []}), Mode::Updates).await;
    assert_eq!(
        ran.values(),
        value!({"notes": ["from a", "from b", "from c", "other", "review"], "a": true, "b": true, "c": true})
    );
}

#[tokio::test]
async fn what_a_sibling_of_a_command_to_the_parent_wrote_goes_to_the_parent_too() {
    let g = around(
        r#"
nodes:
  ta: { steps: [ { sleep_ms: 20 }, { command: { parent: true, goto: '"review"', update: { a: true, notes: '["from a"]' } } } ] }
  tb: { steps: [ { sleep_ms: 40 }, { update: { b: true, notes: '["slow b"]' } } ] }
  tc: { update: { c: true, notes: '["quick c"]' } }
edges: [ { from: START, to: [ta, tb, tc] } ]
"#,
    );
    let ran = run(&g, value!({"notes": []}), Modes::NONE).await;
    assert_eq!(
        ran.values(),
        value!({"notes": ["from a", "slow b", "quick c", "review"], "a": true, "b": true, "c": true})
    );
}

#[tokio::test]
async fn a_command_to_the_parent_beside_a_question_waits_for_the_answer_and_is_not_made_again() {
    let g = around(
        r#"
nodes:
  ta: { steps: [ { emit: '"a runs"' }, { command: { parent: true, goto: '"review"', update: { a: true } } } ] }
  tb: { steps: [ { interrupt: { value: '"b?"', as: x } }, { update: { b: 'x' } } ] }
edges: [ { from: START, to: [ta, tb] } ]
"#,
    );
    let config = RunConfig { subgraphs: true, ..RunConfig::thread(thread()) }.modes(Mode::Custom);
    let ran = run_with(&g, value!({"notes": []}), config.clone()).await;
    assert_eq!((ran.questions.clone(), ran.custom()), (vec![value!("b?")], vec![value!("a runs")]));
    let ran = run_with(&g, Command::resume("yes"), config).await;
    assert_eq!(ran.values(), value!({"notes": ["review"], "a": true, "b": "yes"}));
    assert!(ran.custom().is_empty());
}

#[tokio::test]
async fn a_graph_that_keeps_its_state_takes_new_input_after_it_handed_over() {
    let inner = r#"
hidden: true
state: { n: {}, seen: { reducer: append } }
nodes:
  note: { update: { seen: '[state.n]' } }
  leave: { command: { parent: true, update: { seen: 'state.seen' } } }
edges: [ { from: START, to: note }, { from: note, to: leave } ]
"#;
    let outer = "state: { n: {}, seen: {} }\nnodes:\n  one: { subgraph: { graph: inner, input: { n: 'state.n' }, checkpointer: true } }\nedges: [ { from: START, to: one } ]";
    let g = graph_with(outer, &[("inner", inner)], &Registry::new());
    let config = RunConfig::thread(thread()).modes(Modes::NONE);
    run_with(&g, value!({"n": 1}), config.clone()).await.values();
    assert_eq!(run_with(&g, value!({"n": 2}), config).await.values(), value!({"n": 2, "seen": [1, 2]}));
}

/// A subgraph beside a sibling, both with this state.
fn beside(state: &str, inner: &str, sibling: &str) -> Graph {
    let inner = format!(
        "hidden: true\nstate: {{ {state}, own: {{}} }}\nnodes: {{ s: {{ update: {{ {inner} }} }} }}\nedges: [ {{ from: START, to: s }} ]"
    );
    let outer = format!(
        "state: {{ {state} }}\nnodes:\n  sub: {{ subgraph: inner }}\n  sibling: {{ update: {{ {sibling} }} }}\nedges: [ {{ from: START, to: [sub, sibling] }} ]"
    );
    graph_with(&outer, &[("inner", &inner)], &Registry::new())
}

#[tokio::test]
async fn a_subgraph_writes_what_it_changed_of_the_channels_that_it_shares() {
    let cases = [
        ("x: {}", "own: 'state.x'", "x: '\"sibling\"'", value!({"x": "in"}), value!({"x": "sibling"})),
        (
            "x: { reducer: append }",
            "x: '[\"sub\"]'",
            "x: '[\"sibling\"]'",
            value!({"x": ["in"]}),
            // Written back whole where it was changed, as LangGraph does.
            value!({"x": ["in", "sibling", "in", "sub"]}),
        ),
        (
            "x: { reducer: append }",
            "own: 1",
            "x: '[\"sibling\"]'",
            value!({"x": ["in"]}),
            value!({"x": ["in", "sibling"]}),
        ),
        ("x: { reducer: add }", "x: 1", "x: 10", value!({"x": 5}), value!({"x": 16})),
        (
            "x: { reducer: merge }",
            "x: '{\"sub\": 1}'",
            "x: '{\"in\": \"sibling\"}'",
            value!({"x": {"in": 0}}),
            value!({"x": {"in": "sibling", "sub": 1}}),
        ),
        ("x: { reducer: max }", "x: 7", "x: 6", value!({"x": 5}), value!({"x": 7})),
    ];
    for (state, inner, sibling, input, expected) in cases {
        let ran = run(&beside(state, inner, sibling), input, Modes::NONE).await;
        assert_eq!(ran.values(), expected, "{state}: {inner} beside {sibling}");
    }
}

#[tokio::test]
async fn messages_that_a_subgraph_only_read_do_not_undo_what_a_sibling_made_of_them() {
    let g = beside(
        "messages: { reducer: messages }",
        "own: 'size(state.messages)'",
        r#"messages: '[{"role": "human", "id": "1", "content": "edited"}]'"#,
    );
    let input = value!({"messages": [{"role": "human", "id": "1", "content": "as given"}]});
    let values = run(&g, input, Modes::NONE).await.values();
    let texts = values.get("messages").unwrap().as_list().unwrap().iter().map(|m| m.get("content").unwrap().clone());
    assert_eq!(texts.collect::<Vec<_>>(), [value!("edited")]);
}

#[tokio::test]
async fn a_subgraph_that_went_on_from_a_stop_writes_what_it_changed_since_its_input() {
    let inner = r#"
hidden: true
state: { x: { reducer: append }, topic: {} }
nodes:
  first: { update: { x: '["first"]' } }
  ask: { steps: [ { interrupt: { value: '"go on?"', as: y } }, { update: { x: '[y]' } } ] }
edges: [ { from: START, to: first }, { from: first, to: ask } ]
"#;
    for keeps in ["", ", checkpointer: true"] {
        let outer = format!(
            "state: {{ x: {{ reducer: append }}, topic: {{}} }}\nnodes:\n  sub: {{ subgraph: {{ graph: inner{keeps} }} }}\nedges: [ {{ from: START, to: sub }} ]"
        );
        let g = graph_with(&outer, &[("inner", inner)], &Registry::new());
        let config = RunConfig::thread(thread()).modes(Mode::Updates);
        run_with(&g, value!({"x": ["in"], "topic": "t"}), config.clone()).await;
        let ran = run_with(&g, Command::resume("yes"), config).await;
        assert_eq!(ran.values().get("x"), Some(&value!(["in", "in", "first", "yes"])), "{keeps}");
        assert_eq!(ran.updates(), [r#"{"sub":{"x":["in","first","yes"]}}"#], "{keeps}");
    }
}

/// The open questions by what they ask, and what ran.
fn open(ran: &Ran) -> (BTreeMap<String, std::sync::Arc<str>>, Vec<String>) {
    let mut questions = BTreeMap::new();
    for part in &ran.parts {
        if let Payload::Update(UpdatePart::Interrupt(asked)) = &part.payload {
            questions.extend(asked.iter().map(|q| (q.value.as_str().unwrap().to_owned(), q.id.clone())));
        }
    }
    let mut custom: Vec<String> = ran.custom().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    custom.sort();
    (questions, custom)
}

fn answers(open: &BTreeMap<String, std::sync::Arc<str>>, given: &[(&str, &str)]) -> Command {
    let by_id = given.iter().map(|(question, answer)| (open[*question].clone(), Value::string(*answer))).collect();
    Command { resume: Some(Answer::ById(by_id)), ..Command::default() }
}

#[tokio::test]
async fn a_task_with_an_open_question_and_no_answer_does_not_run_again() {
    let g = graph(
        r#"
state: { trail: { reducer: append } }
nodes:
  a:
    steps:
      - emit: '"a runs"'
      - interrupt: { value: '"a0"', as: x }
      - interrupt: { value: '"a1"', as: y }
      - interrupt: { value: '"a2"', as: z }
      - update: { trail: '["a:" + x + y + z]' }
  b:
    steps:
      - emit: '"b runs"'
      - interrupt: { value: '"b0"', as: x }
      - interrupt: { value: '"b1"', as: y }
      - update: { trail: '["b:" + x + y]' }
  end: { update: { trail: '["end"]' } }
edges: [ { from: START, to: [a, b] }, { from: [a, b], to: end } ]
"#,
    );
    let config = RunConfig::thread(thread()).modes([Mode::Updates, Mode::Custom]);
    let mut ran = run_with(&g, value!({"trail": []}), config.clone()).await;
    let rounds: [(&[(&str, &str)], &[&str], &[&str]); 4] = [
        (&[("a0", "1"), ("b0", "2")], &["a1", "b1"], &["a runs", "b runs"]),
        (&[("b1", "4")], &["a1"], &["b runs"]),
        (&[("a1", "3")], &["a2"], &["a runs"]),
        (&[("a2", "5")], &[], &["a runs"]),
    ];
    for (given, still_open, runs) in rounds {
        let command = answers(&open(&ran).0, given);
        ran = run_with(&g, command, config.clone()).await;
        let (questions, custom) = open(&ran);
        assert_eq!(questions.keys().collect::<Vec<_>>(), still_open, "after {given:?}");
        assert_eq!(custom, runs, "after {given:?}");
        let state = g.get_state(config.thread_id.unwrap(), None, false).await.unwrap();
        let shown: Vec<Value> = state.tasks.iter().flat_map(|t| t.interrupts.iter().map(|q| q.value.clone())).collect();
        assert_eq!(shown, still_open.iter().map(|q| Value::string(*q)).collect::<Vec<_>>(), "after {given:?}");
    }
    assert_eq!(ran.values(), value!({"trail": ["a:135", "b:24", "end"]}));
}

#[tokio::test]
async fn of_questions_in_a_graph_and_in_one_within_only_the_answered_go_on() {
    let inner = r#"
hidden: true
state: { trail: { reducer: append } }
nodes:
  s1: { steps: [ { emit: '"s1 runs"' }, { interrupt: { value: '"s1?"', as: x } }, { update: { trail: '["s1"]' } } ] }
  s2: { steps: [ { emit: '"s2 runs"' }, { interrupt: { value: '"s2?"', as: x } }, { update: { trail: '["s2"]' } } ] }
edges: [ { from: START, to: [s1, s2] } ]
"#;
    let outer = r#"
state: { trail: { reducer: append } }
nodes:
  a: { steps: [ { emit: '"a runs"' }, { interrupt: { value: '"a?"', as: x } }, { update: { trail: '["a"]' } } ] }
  s: { subgraph: inner }
edges: [ { from: START, to: [a, s] } ]
"#;
    let g = graph_with(outer, &[("inner", inner)], &Registry::new());
    let config = RunConfig { subgraphs: true, ..RunConfig::thread(thread()) }.modes([Mode::Updates, Mode::Custom]);
    let mut ran = run_with(&g, value!({"trail": []}), config.clone()).await;
    let questions = open(&ran).0;
    assert_eq!(questions.keys().collect::<Vec<_>>(), ["a?", "s1?", "s2?"]);
    for (question, runs) in [("s2?", "s2 runs"), ("a?", "a runs"), ("s1?", "s1 runs")] {
        ran = run_with(&g, answers(&questions, &[(question, "x")]), config.clone()).await;
        assert_eq!(open(&ran).1, [runs], "only `{question}` is answered");
    }
    assert_eq!(ran.values(), value!({"trail": ["a", "s1", "s2"]}));
}
