//! What the guide shows is true: its document loads, its error is the one that is told, its limits are the limits.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use runloom_document::{MAX_BYTES, Registry, load};

fn guide() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/graph-documents.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_first_document_loads_and_its_slip_is_told_as_shown() {
    let guide = guide();
    let text = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    load(text, "greeting.yaml", &Registry::new()).unwrap_or_else(|e| panic!("{e}"));
    let slip = text.replace("state.name", "stat.name");
    let error = load(&slip, "greeting.yaml", &Registry::new()).unwrap_err().to_string();
    assert!(guide.contains(&error), "the guide should show\n{error}");
}

#[test]
fn its_limits_are_the_limits() {
    assert_eq!(MAX_BYTES, 1 << 20);
    assert!(guide().contains("A document can have 1 MiB, 20,000 values and 64 levels."));
    let document = |nodes: usize, depth: usize| {
        let many = "x,".repeat(nodes);
        let deep = "[".repeat(depth) + &"]".repeat(depth);
        let text = format!(
            "runloom: v1\nname: a\nstate: {{ x: {{ default: [{many} {deep}] }} }}\nnodes: {{ n: {{ emit: '1' }} }}\nedges: [ {{ from: START, to: n }} ]"
        );
        load(&text, "a.yaml", &Registry::new()).map(|_| ())
    };
    assert_eq!(document(19_900, 50), Ok(()));
    assert!(document(20_100, 1).is_err());
    assert!(document(10, 70).is_err());
}
