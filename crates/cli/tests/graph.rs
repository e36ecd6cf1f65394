//! `runloom graph`: documents are checked and drawn.
#![allow(missing_docs)]

mod common;

use common::{folder, path, run};

const GOOD: &str = "\
runloom: v1
name: good
state:
  x: {}
nodes:
  one: { update: { x: 1 } }
  two: { subgraph: inner }
edges:
  - { from: START, to: one }
  - { from: one, route: 'state.x > 0 ? \"two\" : \"END\"', to: [two, END] }
";

const INNER: &str = "\
runloom: v1
name: inner
hidden: true
state:
  x: {}
nodes:
  deep: { update: { x: state.x + 1 } }
edges:
  - { from: START, to: deep }
";

#[test]
fn a_document_is_checked_with_its_neighbours() {
    let graphs = folder(&[("good.yaml", GOOD), ("inner.yaml", INNER), ("broken.yaml", "runloom: v1\n")]);
    let good = graphs.path().join("good.yaml");
    let checked = run(&["graph", "check", path(&good)]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.out.starts_with(&format!("{}: ok (graph good, 2 nodes, revision ", path(&good))),
        "{}",
        checked.out
    );
    let all = run(&["graph", "check", path(graphs.path())]);
    assert_eq!(all.code, Some(1), "{all:?}");
    assert!(all.out.contains("broken.yaml") && all.out.matches(": ok (").count() == 2, "{}", all.out);
}

#[test]
fn every_error_has_its_place_and_the_nearest_name() {
    let wrong = GOOD
        .replace("update:", "updte:")
        .replace("subgraph: inner", "subgraph: iner")
        .replace("from: one", "from: oen");
    let graphs = folder(&[("wrong.yaml", &wrong), ("inner.yaml", INNER)]);
    let file = graphs.path().join("wrong.yaml");
    let checked = run(&["graph", "check", path(&file)]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for expected in [":6:10: ", "did you mean `update`?", "did you mean `inner`?", "did you mean `one`?"] {
        assert!(checked.out.contains(expected), "{expected}: {}", checked.out);
    }
    let places = checked.out.lines().filter(|line| line.starts_with(&format!("{}:", path(&file)))).count();
    assert!(checked.out.ends_with(&format!("{places} errors\n")), "{}", checked.out);
    let missing = run(&["graph", "check", "/no/such.yaml"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
}

#[test]
fn a_document_is_drawn() {
    let graphs = folder(&[("good.yaml", GOOD), ("inner.yaml", INNER)]);
    let file = graphs.path().join("good.yaml");
    let drawn = run(&["graph", "draw", path(&file)]);
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    for line in ["graph TD;", "\t__start__ --> one;", "\ttwo[[two]]", "\tone -.-> two;"] {
        assert!(drawn.out.lines().any(|l| l == line), "{line}: {}", drawn.out);
    }
    let deeper = run(&["graph", "draw", path(&file), "--depth", "1"]);
    assert!(deeper.out.contains("two:deep"), "{}", deeper.out);
    let example = run(&["graph", "draw", "joke"]);
    assert!(example.out.contains("refine_topic --> generate_joke"), "{example:?}");
    assert_eq!(run(&["graph", "draw", "nothing"]).code, Some(2));
}

#[test]
fn the_examples_are_listed() {
    let listed = run(&["graph", "list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let names: Vec<&str> = listed.out.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["agent", "approval", "handbook", "joke", "map_reduce", "resume", "support_agent"]);
}
