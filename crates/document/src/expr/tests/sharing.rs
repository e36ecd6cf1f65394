//! An expression costs what it touches, and gives back what it names.

use runloom_engine::{List, StateView, Value, value};

use super::*;

fn messages(n: usize) -> StateView {
    let list: List = (0..n).map(|i| value!({"type": "human", "content": format!("message {i}"), "n": i})).collect();
    state(Value::Object([("messages", Value::List(list))].into_iter().collect()))
}

/// The steps of an evaluation, which are also what it may cost.
fn steps(source: &str, over: &StateView) -> usize {
    run(source, over).unwrap_or_else(|e| panic!("{source}: {e}")).1
}

#[test]
fn what_an_expression_touches_does_not_grow_with_the_state() {
    let (small, large) = (messages(10), messages(10_000));
    for source in [
        "size(state.messages)",
        "state.messages[size(state.messages) - 1].content",
        "state.messages[3]",
        "has(state.messages)",
        "'messages' in state",
        "state.messages == state.messages",
        "state.messages.size() > 0 ? 'some' : 'none'",
        "state.messages.exists(m, m.n == 2)",
    ] {
        let (few, many) = (steps(source, &small), steps(source, &large));
        assert_eq!(few, many, "{source}");
        assert!(many < 60, "{source} takes {many} steps");
    }
    assert!(steps("state.messages.filter(m, m.n == 2)", &large) > 10_000, "the steps do count what is touched");
}

#[test]
fn a_path_gives_back_the_very_value_it_names() {
    let over = messages(100);
    let whole = over.get("messages").unwrap().clone();
    let get = |source: &str| run(source, &over).unwrap().0;
    assert!(get("state.messages").same(&whole));
    assert!(get("state['messages']").same(&whole));
    assert!(get("state.messages[7]").same(whole.as_list().unwrap().get(7).unwrap()));
    assert!(get("true ? state.messages : []").same(&whole));
    assert!(get("[] + state.messages").same(&whole));
    assert!(get("{'kept': state.messages}.kept").same(&whole));
    let kept = get("state.messages.filter(m, m.n == 3)");
    assert!(kept.as_list().unwrap().get(0).unwrap().same(whole.as_list().unwrap().get(3).unwrap()));
    assert!(get("state.messages.map(m, m.content)[5]").same(&get("state.messages[5].content")));
}

#[test]
fn texts_are_shared_too() {
    let over = state(value!({"text": "a long text"}));
    let whole = over.get("text").unwrap().clone();
    for source in ["state.text", "string(state.text)", "'' + state.text", "dyn(state.text)"] {
        assert!(run(source, &over).unwrap().0.same(&whole), "{source}");
    }
}
