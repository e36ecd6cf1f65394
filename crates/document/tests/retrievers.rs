//! `retrievers`: asked by a node and by a tool, with their events.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{Ran, graph_with, run};
use futures_util::{FutureExt, future::BoxFuture};
use runloom_document::{Registry, load};
use runloom_engine::{
    Value,
    retriever::{Document, Embeddings, RetrieveError, Search, VectorIndex},
    stream::{EventKind, Mode, Modes},
    value,
};
use runloom_retrievers::{Retriever, VectorTable, VectorTables};

const DOCUMENT: &str = "state: { q: {}, found: {}, messages: { reducer: messages } }
retrievers:
  animals:
    embeddings: { hash: { dimensions: 512 } }
    k: 2
    index:
      embedded:
        documents:
          - { id: cat, page_content: cats sleep most of the day, metadata: { legs: 4, wild: false } }
          - { id: dog, page_content: dogs sleep at night, metadata: { legs: 4, wild: false } }
          - { id: emu, page_content: an emu runs fast, metadata: { legs: 2, wild: true } }
          - spiders spin
";

async fn asked(step: &str, modes: impl Into<Modes>) -> Ran {
    let text = format!("{DOCUMENT}nodes: {{ n: {{ steps: [{step}] }} }}\nedges: [ {{ from: START, to: n }} ]");
    run(&graph_with(&text, &[], &Registry::new()), value!({"q": "when do cats sleep?"}), modes).await
}

fn ids(found: &Value) -> Vec<Option<String>> {
    found.as_list().unwrap().iter().map(|d| d.get_str("id").map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_node_finds_the_closest_documents_in_langchains_form() {
    let ran = asked(
        "{ retrieve: { retriever: animals, query: state.q, write: found } }, { emit: 'size(documents)' }",
        Mode::Custom,
    )
    .await;
    assert_eq!(ran.custom(), [value!(2)]);
    let found = ran.values().get("found").unwrap().clone();
    assert_eq!(ids(&found), [Some("cat".to_owned()), Some("dog".to_owned())]);
    let first = value!({
        "id": "cat", "metadata": {"legs": 4, "wild": false}, "page_content": "cats sleep most of the day", "type": "Document",
    });
    assert_eq!(found.as_list().unwrap().get(0), Some(&first));
}

#[tokio::test]
async fn a_call_says_how_many_and_which() {
    let step = |more: &str| {
        format!("{{ retrieve: {{ retriever: animals, query: state.q, {more} as: d }} }}, {{ update: {{ found: d }} }}")
    };
    let found = async |more: &str| ids(asked(&step(more), Modes::NONE).await.values().get("found").unwrap());
    assert_eq!(found("k: 1,").await, [Some("cat".to_owned())]);
    assert_eq!(found("k: '2 + 2',").await.len(), 4);
    assert_eq!(found("k: 0,").await.len(), 0);
    assert_eq!(found("filter: '{\"legs\": 2}',").await, [Some("emu".to_owned())]);
    assert_eq!(found("filter: { legs: 4, wild: true },").await.len(), 0);
    let failure = asked("{ retrieve: { retriever: animals, query: '[1]' } }", Modes::NONE).await.failure();
    assert_eq!(
        (&*failure.kind, &*failure.message),
        ("RetrieverError", "`query` of `retrieve` has to be a text, not a list")
    );
    let failure =
        asked("{ retrieve: { retriever: animals, query: state.q, k: '\"x\"' } }", Modes::NONE).await.failure();
    assert!(failure.message.contains("`k` of `retrieve`"), "{failure}");
}

#[tokio::test]
async fn its_events_have_the_query_and_the_documents() {
    let ran = asked("{ retrieve: { retriever: animals, query: state.q } }", Mode::Events).await;
    let events: Vec<_> = ran.events().filter(|e| &*e.name == "animals").collect();
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::RetrieverStart, EventKind::RetrieverEnd]);
    let query = value!({"query": "when do cats sleep?"});
    assert_eq!((&events[0].data.input, &events[0].data.output), (&Some(query.clone()), &None));
    assert_eq!(events[1].data.input, Some(query));
    assert_eq!(ids(events[1].data.output.as_ref().unwrap()), [Some("cat".to_owned()), Some("dog".to_owned())]);
    assert_eq!(events[0].run_id, events[1].run_id);
}

#[tokio::test]
async fn a_tool_gives_the_texts_and_keeps_the_documents() {
    let text = format!(
        "{DOCUMENT}tools:\n  look_up: {{ description: About animals., retriever: animals }}\n  look: {{ retriever: {{ name: \
         animals, k: 1 }} }}\nnodes: {{ n: {{ tools: {{}} }} }}\nedges: [ {{ from: START, to: n }} ]"
    );
    let graph = graph_with(&text, &[], &Registry::new());
    let call = |name: &str, args: Value, id: &str| value!({"name": name, "args": args, "id": id});
    let ai = value!({"role": "ai", "content": "", "tool_calls": [
        call("look_up", value!({"query": "who sleeps?"}), "1"), call("look", value!({"query": "a fast emu"}), "2"),
        call("look", value!({"question": "?"}), "3"),
    ]});
    let values = run(&graph, value!({"messages": [ai]}), Modes::NONE).await.values();
    let messages = values.get("messages").unwrap().as_list().unwrap();
    let content = |at: usize| messages.get(at).unwrap().get_str("content").unwrap();
    assert_eq!(ids(messages.get(1).unwrap().get("artifact").unwrap()).len(), 2);
    assert_eq!(content(1).split("\n\n").count(), 2);
    assert_eq!(content(2), "an emu runs fast");
    assert!(content(3).contains("\"query\" is a required property"), "{}", content(3));
}

/// Fails, or gives what it is told to search for.
struct Given {
    fails: bool,
    searched: Mutex<Vec<Search>>,
}

impl Embeddings for Given {
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, RetrieveError>> {
        let fails = self.fails;
        async move {
            if fails {
                Err(RetrieveError::passing("no answer"))
            } else {
                Ok(texts.iter().map(|t| vec![t.len() as f32]).collect())
            }
        }
        .boxed()
    }
}

impl VectorIndex for Given {
    fn search(&self, search: Search) -> BoxFuture<'static, Result<Vec<Document>, RetrieveError>> {
        self.searched.lock().unwrap().push(search);
        async { Ok(vec![Document { page_content: "found".into(), ..Document::default() }]) }.boxed()
    }
}

#[tokio::test]
async fn a_program_brings_retrievers_of_its_own() {
    let text = "state: { found: {} }\nnodes: { n: { retrieve: { retriever: mine, query: '\"four\"', filter: '{\"a\": 1}', write: \
                found } } }\nedges: [ { from: START, to: n } ]";
    let given = |fails| Arc::new(Given { fails, searched: Mutex::default() });
    let ask = async |given: &Arc<Given>| {
        let retriever = Retriever { embeddings: given.clone(), index: given.clone(), k: 7 };
        run(&graph_with(text, &[], &Registry::new().retriever("mine", retriever)), value!({}), Mode::Events).await
    };
    let works = given(false);
    let values = ask(&works).await.values();
    assert_eq!(values.get("found").unwrap().as_list().unwrap().get(0).unwrap().get_str("page_content"), Some("found"));
    let filter = value!({"a": 1}).as_object().unwrap().clone();
    assert_eq!(*works.searched.lock().unwrap(), [Search { vector: vec![4.0], k: 7, filter }]);
    let failure = ask(&given(true)).await.failure();
    assert_eq!((&*failure.message, failure.retryable), ("retriever `mine`: no answer", true));
}

#[derive(Default)]
struct Tables(Mutex<Vec<VectorTable>>);

impl VectorTables for Tables {
    fn table(&self, table: VectorTable) -> Arc<dyn VectorIndex> {
        self.0.lock().unwrap().push(table);
        Arc::new(Given { fails: false, searched: Mutex::default() })
    }
}

fn loaded(retriever: &str, registry: &Registry) -> Result<(), String> {
    let text = format!(
        "runloom: v1\nname: g\nstate: {{ a: {{}} }}\nretrievers:\n  r: {retriever}\nnodes: {{ n: {{ retrieve: {{ retriever: r, query: \
         state.a }} }} }}\nedges: [ {{ from: START, to: n }} ]"
    );
    load(&text, "g.yaml", registry).map(drop).map_err(|e| e.to_string())
}

#[test]
fn a_table_is_named_with_its_columns() {
    let tables = Arc::new(Tables::default());
    let registry = Registry::new().vectors(tables.clone());
    loaded(
        "{ embeddings: { hash: }, index: { pgvector: { table: public.docs, content: text, distance: euclidean } } }",
        &registry,
    )
    .unwrap();
    let table = tables.0.lock().unwrap().pop().unwrap();
    assert_eq!((&*table.table, &*table.content, &*table.embedding), ("public.docs", "text", "embedding"));
    for (pgvector, says) in [
        ("{ table: a.b.c }", "`a.b.c` is no name of a table"),
        ("{ table: 'a\"b' }", "is no name of a table"),
        ("{ table: a, id: '' }", "`` is no name of a column"),
        ("{ table: a, distance: cosin }", "there is no distance `cosin`; did you mean `cosine`?"),
        ("{ }", "`pgvector` needs a `table`"),
    ] {
        let fault = loaded(&format!("{{ embeddings: {{ hash: }}, index: {{ pgvector: {pgvector} }} }}"), &registry)
            .unwrap_err();
        assert!(fault.contains(says), "{pgvector}: {fault}");
    }
}

#[tokio::test]
async fn a_table_without_a_database_is_a_warning_and_a_search_that_fails() {
    let text = "runloom: v1\nname: g\nstate: { a: {} }\nretrievers: { r: { embeddings: { hash: }, index: { pgvector: { table: t } } \
                } }\nnodes: { n: { retrieve: { retriever: r, query: '\"x\"' } } }\nedges: [ { from: START, to: n } ]";
    let document = load(text, "g.yaml", &Registry::new()).unwrap();
    assert!(document.warnings()[0].message.contains("--pgvector"), "{:?}", document.warnings());
    let failure = run(document.graph(), value!({"a": 1}), Modes::NONE).await.failure();
    assert!(failure.message.contains("--pgvector") && !failure.retryable, "{failure}");
}

#[test]
fn embeddings_of_a_provider_are_read_as_its_models_are() {
    let with = |embeddings: &str| format!("{{ embeddings: {embeddings}, index: {{ embedded: {{ documents: [] }} }} }}");
    let open = Registry::new();
    assert_eq!(loaded(&with("{ provider: openai, model: text-embedding-3-small, dimensions: 256 }"), &open), Ok(()));
    let elsewhere = with("{ provider: openai, model: m, base_url: 'http://10.0.0.1/v1', api_key_env: OPENAI_API_KEY }");
    assert_eq!(loaded(&elsewhere, &open), Ok(()));
    let fault = loaded(&elsewhere, &Registry::new().registered("g.yaml")).unwrap_err();
    assert!(fault.contains("retriever `r`, embeddings, base_url: a document that was registered"), "{fault}");
    for (embeddings, says) in [
        ("{ provider: anthropic, model: m }", "anthropic makes no embeddings"),
        ("{ provider: opnai, model: m }", "did you mean `openai`?"),
        ("{ provider: openai }", "needs `model`"),
        ("{ provider: openai, model: m, temperature: 0 }", "there is no `temperature` here"),
    ] {
        let fault = loaded(&with(embeddings), &open).unwrap_err();
        assert!(fault.contains(says), "{embeddings}: {fault}");
    }
}

#[test]
fn what_is_wrong_with_a_retriever_is_told_with_its_place() {
    for (retriever, says) in [
        ("{ index: { embedded: { documents: [] } } }", "retriever `r`: a retriever needs `embeddings`"),
        ("{ embeddings: { hash: } }", "a retriever needs an `index`"),
        ("{ embeddings: { hash: }, index: { embedded: { documents: [] } }, k: 0 }", "k: expected an integer from 1 on"),
        ("{ embeddings: { hash: }, index: { embedded: { documents: [] } }, k: 5000 }", "at most 1000 documents"),
        (
            "{ embeddings: { hash: { dimensions: 99999 } }, index: { embedded: { documents: [] } } }",
            "at most 16000 dimensions",
        ),
        (
            "{ embeddings: { hash: }, index: { embedded: { documents: [{ id: x }] } } }",
            "document 1: a document needs a `page_content`",
        ),
        ("{ embeddings: { hash: }, index: { embedded: {} } }", "an embedded index needs `documents`, a list"),
        ("{ embeddings: { hash: }, index: { embedded: {}, pgvector: {} } }", "an index is one of"),
    ] {
        let fault = loaded(retriever, &Registry::new()).unwrap_err();
        assert!(fault.contains(says), "{retriever}: {fault}");
    }
    let text = "runloom: v1\nname: g\nstate: { a: {} }\nnodes: { n: { retrieve: { retriever: r, query: state.a } } }\nedges: [ { from: \
                START, to: n } ]";
    let fault = load(text, "g.yaml", &Registry::new()).unwrap_err().to_string();
    assert!(fault.contains("there is no retriever `r`"), "{fault}");
}
