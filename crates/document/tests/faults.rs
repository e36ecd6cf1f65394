//! What is wrong with a document is told with its line and column, all of it, with the name that may be meant.

#![allow(clippy::unwrap_used)]

use runloom_document::{DocumentSet, Error, Registry, load};

/// A document with these nodes and edges, which begin at line 3.
fn document(name: &str, rest: &str) -> String {
    format!("runloom: v1\nname: {name}\n{rest}")
}

/// The faults of a document, one to a line.
#[track_caller]
fn faults(rest: &str) -> String {
    load(&document("a", rest), "a.yaml", &Registry::new()).expect_err(rest).to_string()
}

/// A state and a node that are right, for documents where something else is not.
const REST: &str = "state: { x: {} }\nnodes: { one: { update: { x: '1' } } }\nedges: [ { from: START, to: one } ]\n";

#[test]
fn all_that_is_wrong_with_a_document_is_told_at_once() {
    let text = include_str!("data/faults.yaml");
    let error = load(text, "faults.yaml", &Registry::new()).unwrap_err();
    let (got, want) = (error.to_string(), include_str!("data/faults.txt").trim_end());
    for (got, want) in got.lines().zip(want.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(got.lines().count(), want.lines().count());
    assert!(error.problems().iter().all(|p| p.line > 0 && p.column > 0));
}

#[test]
fn a_document_says_what_it_is() {
    let load = |text: &str| load(text, "a.yaml", &Registry::new()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(load("name: a\n"), "a.yaml:1:1: a graph document begins with `runloom: v1`");
    assert_eq!(load("runloom: v2\nname: a"), "a.yaml:1:10: the format's version has to be `v1`, found the text `v2`");
    assert!(load("runloom: 1\nname: a").contains("found `1`"));
    assert!(load("- 1").contains("a graph document is a map that begins with `runloom: v1`, not a list"));
    assert!(load("").contains("a graph document"));
    assert!(load("runloom: v1\n").contains("needs a `name`"));
    assert!(load("{\"runloom\": \"v1\", \"name\": \"a\"}").contains("needs `state`"));
    assert!(load("a: [1\nb: 2").starts_with("a.yaml:2:"));
}

#[test]
fn an_expression_of_several_lines_is_found_by_its_own_lines() {
    let text = "state: { x: {} }\nnodes:\n  one:\n    update:\n      x: |\n        1 +\n        stat.x\nedges: [ { from: START, to: one } ]";
    let says = "there is no name `stat` here; did you mean `state`?";
    assert_eq!(faults(text), format!("a.yaml:9:9: node `one`, update, x: in the expression `1 +…`: {says}"));
    let folded = text.replace("x: |", "x: >");
    let got = faults(&folded);
    assert_eq!(
        got,
        format!("a.yaml:8:9: node `one`, update, x: in the expression `1 + stat.x`, line 1, column 5: {says}")
    );
    let escaped =
        "state: { x: {} }\nnodes: { one: { emit: \"'\\u00e9' + stat.x\" } }\nedges: [ { from: START, to: one } ]";
    let got = faults(escaped);
    assert_eq!(
        got,
        format!("a.yaml:4:23: node `one`, emit: in the expression `'é' + stat.x`, line 1, column 7: {says}")
    );
}

#[test]
fn what_is_wrong_with_a_worker_is_said_at_its_place() {
    for (what, says) in [
        ("nodes: { one: { worker: { handler: x } } }", "a `worker` needs a `queue`"),
        ("nodes: { one: { worker: { queue: '', handler: x } } }", "a name has 1 to 128 bytes, this has 0"),
        ("nodes: { one: { worker: { queue: q, handel: x } } }", "there is no `handel` here; did you mean `handler`?"),
        ("nodes: { one: { worker: { queue: q, schedule_to_start_ms: 0 } } }", "expected an integer from 1 on"),
        ("nodes: { one: { remote: { handler: x } } }", "there is no `remote` here"),
    ] {
        let got = faults(what);
        assert!(got.contains(says), "{what}: {got}");
    }
}

#[test]
fn what_is_wrong_with_a_providers_model_is_said_at_its_place() {
    for (model, says) in [
        ("{ provider: openai }", "a model of a provider needs `model`"),
        ("{ provider: opnai, model: x }", "provider: there is no provider `opnai`; did you mean `openai`?"),
        ("{ provider: openai, model: x, api_key: sk-123 }", "a key does not belong into a document"),
        ("{ provider: openai, model: x, temprature: 0 }", "there is no `temprature` here; did you mean `temperature`?"),
        (
            "{ provider: openai, model: x, temperature: hot }",
            "temperature: expected a number from 0 to 2, found `\"hot\"`",
        ),
        ("{ provider: openai, model: x, top_p: 2 }", "top_p: expected a number from 0 to 1, found `2`"),
        ("{ provider: anthropic, model: x, seed: 1 }", "seed: anthropic takes no seed"),
        ("{ provider: openai, model: x, response_format: xml }", "response_format: expected json, or"),
        ("{ provider: openai, model: x, reasoning_effort: much }", "reasoning_effort: expected none, minimal"),
        ("{ provider: openai, model: x, extra_body: { stream: false } }", "extra_body: `stream` cannot be set here"),
        ("{ provider: openai, model: x, base_url: localhost }", "the address is not usable: it is no URL"),
        ("{ provider: openai, model: x, base_url: 'https://me:pw@host/v1' }", "it names a user or a password"),
        ("{ provider: openai, model: 'gpt 4' }", "`gpt 4` is no name of a model"),
        ("{ provider: gemini, model: '../../v1beta/files?x=' }", "is no name of a model"),
        ("{ provider: gemini, model: 'x/../y' }", "`x/../y` is no name of a model"),
        ("{ provider: openai, model: x, max_retries: 101 }", "max_retries: expected a number from 0 to 100"),
        ("{ provider: openai, model: x, api_key_env: A, api_key_file: /b }", "are one too many"),
        ("{ provider: openai, model: x, silence_timeout_ms: 0 }", "silence_timeout_ms: expected a number from 1 on"),
    ] {
        let got = faults(&format!("models: {{ m: {model} }}"));
        assert!(
            got.lines().any(|l| l.starts_with("a.yaml:3:") && l.contains("model `m`") && l.contains(says)),
            "{model}: {got}"
        );
        assert!(!got.contains("sk-123"), "{got}");
    }
}

#[test]
fn a_document_of_a_caller_may_not_name_keys_files_and_addresses_as_it_likes() {
    let text = |model: &str| {
        format!(
            "runloom: v1\nname: a\nstate: {{ messages: {{ reducer: messages }} }}\nmodels: {{ m: {model} }}\nnodes: {{ one: {{ chat_model: {{ model: m }} }} }}\nedges: [ {{ from: START, to: one }} ]"
        )
    };
    let allowed = [runloom_document::Allowed::read("https://llm.example/v1=LLM_API_KEY").unwrap()];
    let caller = Registry::new().registered("a.yaml").allow_models(allowed.into());
    let steal = "{ provider: openai, model: x, base_url: 'https://evil.example/v1', api_key_env: OPENAI_API_KEY }";
    let file = "{ provider: openai, model: x, api_key_file: /etc/passwd }";
    for (model, says) in [
        (
            steal,
            "4:44: model `m`, base_url: a document that was registered cannot name an address of its own; the operator allows one with `--allow-model https://evil.example/v1=KEY_VARIABLE`",
        ),
        (file, "model `m`, api_key_file: a document that was registered cannot name a file of the server"),
    ] {
        let got = load(&text(model), "a.yaml", &caller).unwrap_err().to_string();
        assert!(got.contains(says), "{got}");
        assert!(load(&text(model), "a.yaml", &Registry::new()).is_ok(), "the operator's own may");
    }
    for fine in [
        "{ provider: openai, model: gpt-4o-mini, temperature: 0 }",
        "{ provider: openai, model: x, base_url: 'https://llm.example/v1', api_key_env: LLM_API_KEY }",
    ] {
        assert!(load(&text(fine), "a.yaml", &caller).is_ok(), "{fine}");
    }
}

#[test]
fn a_node_named_without_quotes_of_its_own_is_explained() {
    let got =
        faults("state: { x: {} }\nnodes: { one: { command: { goto: END } } }\nedges: [ { from: START, to: one } ]");
    assert!(got.contains("in the expression `END`: there is no name `END` here; to name the node, write it as a text within the expression: '\"END\"'"), "{got}");
    let got = faults("state: { topic: {} }\nnodes: { one: { emit: topic } }\nedges: [ { from: START, to: one } ]");
    assert!(got.contains("there is no name `topic` here; did you mean `state.topic`?"), "{got}");
}

#[test]
fn a_graph_that_cannot_be_entered_is_refused() {
    let got = faults("state: { x: {} }\nnodes: { one: { update: { x: '1' } } }\nedges: []");
    assert_eq!(got, "a.yaml:5:8: the graph cannot be entered: there is no edge from START");
}

#[test]
fn what_looks_wrong_is_a_warning() {
    let text = "state: { topic: {}, log: { reducer: append } }\nnodes:\n  one: { update: { topic: 'state.tpoic' } }\n  two: { update: { topic: 'has(state.other) ? state.other : \"\"' } }\nedges: [ { from: START, to: one } ]";
    let loaded = load(&document("a", text), "a.yaml", &Registry::new()).unwrap();
    let warnings: Vec<String> = loaded.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "a.yaml:6:3: nothing seems to lead to node `two`",
            "a.yaml:5:27: node `one`, update, topic: the state has no channel `tpoic`; did you mean `topic`?",
        ]
    );
    let sent = text.replace(
        "edges: [",
        "edges: [ { from: one, route: '[{\"node\": \"two\", \"input\": {\"tpoic\": 1}}]', to: two },",
    );
    let loaded = load(&document("a", &sent), "a.yaml", &Registry::new()).unwrap();
    assert_eq!(loaded.warnings(), [], "a node that is sent an input of its own may read any field");
}

/// Loads several documents and gives all their faults.
fn set(documents: &[(&str, &str)]) -> String {
    let texts = documents.iter().map(|(name, rest)| (format!("{name}.yaml"), document(name, rest)));
    match DocumentSet::from_texts(texts, &Registry::new()) {
        Ok(set) => format!("{} loaded", set.len()),
        Err(error) => error.to_string(),
    }
}

fn runs(inner: &str) -> String {
    format!("state: {{ x: {{}} }}\nnodes: {{ one: {{ subgraph: {inner} }} }}\nedges: [ {{ from: START, to: one }} ]\n")
}

#[test]
fn graphs_that_run_inside_themselves_are_refused_with_the_way_round() {
    assert_eq!(set(&[("a", &runs("a"))]), "a.yaml:4:27: node `one`, subgraph: a graph cannot run inside itself: a → a");
    let got = set(&[("a", &runs("b")), ("b", &runs("c")), ("c", &runs("a")), ("d", REST)]);
    assert!(
        got.contains("c.yaml:4:27: node `one`, subgraph: a graph cannot run inside itself: a → b → c → a"),
        "{got}"
    );
    assert!(got.contains("a.yaml:4:27: node `one`, subgraph: graph `b` (b.yaml) has faults of its own"), "{got}");
    assert!(!got.contains("d.yaml"), "{got}");
}

#[test]
fn a_graph_that_is_not_there_is_named_with_the_nearest() {
    let got = set(&[("outer", &runs("iner")), ("inner", REST)]);
    assert_eq!(got, "outer.yaml:4:27: node `one`, subgraph: there is no graph `iner`; did you mean `inner`?");
    assert_eq!(set(&[("outer", &runs("inner")), ("inner", REST)]), "2 loaded");
}

#[test]
fn graphs_nest_to_a_limit() {
    let chain = |n: usize| -> String {
        let names: Vec<String> = (0..n).map(|i| format!("g{i:02}")).collect();
        let mut texts: Vec<(&str, String)> =
            names.iter().zip(&names[1..]).map(|(a, b)| (a.as_str(), runs(b))).collect();
        texts.push((&names[n - 1], REST.to_owned()));
        let forward: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (*n, t.as_str())).collect();
        set(&forward)
    };
    assert_eq!(chain(10), "10 loaded");
    assert!(chain(40).contains("graphs run inside each other deeper than 16"));
    assert!(chain(99).lines().count() < 200);
}

#[test]
fn graphs_that_are_loaded_one_after_the_other_nest_to_the_same_limit() {
    let mut registry =
        Registry::new().graph(load(&document("g0", REST), "g0", &Registry::new()).unwrap().graph().clone());
    for n in 1..=16 {
        let text = document(&format!("g{n}"), &runs(&format!("g{}", n - 1)));
        let loaded = load(&text, "g", &registry).unwrap_or_else(|e| panic!("g{n}: {e}"));
        assert_eq!(loaded.graph().nested(), n);
        registry = registry.graph(loaded.graph().clone());
    }
    let error = load(&document("g17", &runs("g16")), "g17.yaml", &registry).unwrap_err();
    let limit = "graphs run inside each other deeper than 16";
    assert_eq!(error.to_string(), format!("g17.yaml:4:27: node `one`, subgraph: {limit}"));
    let steps = runs("g16").replace("{ subgraph: g16 }", "{ steps: [ { emit: '1' }, { subgraph: g16 } ] }");
    let error = load(&document("g17", &steps), "g17.yaml", &registry).unwrap_err().to_string();
    assert!(error.contains(limit) && error.lines().count() == 1, "{error}");
}

#[test]
fn one_name_is_one_graph() {
    let texts = [("one.yaml", document("same", REST)), ("two.yaml", document("same", REST))];
    let error = DocumentSet::from_texts(texts, &Registry::new()).unwrap_err();
    assert_eq!(error.to_string(), "two.yaml:2:7: graph `same` is in one.yaml already");
}

#[test]
fn a_fault_in_one_document_leaves_the_others() {
    let texts = [
        ("good.yaml", document("good", REST)),
        ("bad.yaml", document("bad", "state: 5\n")),
        ("needs.yaml", document("needs", &runs("bad"))),
        ("not-yaml.yaml", "{".to_owned()),
    ];
    let (set, problems) = DocumentSet::read(texts, &Registry::new());
    assert_eq!(set.iter().map(|d| d.name().to_string()).collect::<Vec<_>>(), ["good"]);
    let files: Vec<&str> = problems.iter().map(|p| &*p.file).collect();
    assert!(["bad.yaml", "needs.yaml", "not-yaml.yaml"].iter().all(|f| files.contains(f)), "{files:?}");
    assert!(!files.contains(&"good.yaml"));
}

#[test]
fn a_folder_is_read_and_what_is_no_document_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", &document("a", &runs("b")));
    write("b.yml", &document("b", REST));
    write(
        "c.json",
        "{\"runloom\": \"v1\", \"name\": \"c\", \"state\": {\"x\": {}}, \"nodes\": {\"n\": {\"emit\": \"1\"}}, \"edges\": [{\"from\": \"START\", \"to\": \"n\"}]}",
    );
    write("notes.txt", "nothing");
    write(".hidden.yaml", "nothing");
    std::fs::create_dir(folder.path().join("d.yaml")).unwrap();
    let set = DocumentSet::load_dir(folder.path(), &Registry::new()).unwrap();
    assert_eq!(set.iter().map(|d| d.name().to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(&**set.get("b").unwrap().file(), "b.yml");
    assert_eq!(set.get("a").unwrap().subgraphs(), ["b".into()]);
    write("bad.yaml", "runloom: v1");
    assert!(matches!(DocumentSet::load_dir(folder.path(), &Registry::new()), Err(Error::Invalid(_))));
    let (set, problems) = DocumentSet::read_dir(folder.path(), &Registry::new()).unwrap();
    assert_eq!(set.len(), 3);
    assert!(!problems.is_empty() && problems.iter().all(|p| &*p.file == "bad.yaml"), "{problems:?}");
    let missing = DocumentSet::load_dir(folder.path().join("nowhere"), &Registry::new());
    assert!(matches!(missing, Err(Error::Unreadable { .. })));
}
