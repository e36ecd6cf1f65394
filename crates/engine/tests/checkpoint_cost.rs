//! A checkpoint costs what its step wrote: for objects that are merged, and for values rebuilt from themselves.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use runloom_engine::{
    checkpoint::{
        Ack, CheckpointFilter, CheckpointWrite, Checkpointer, Durability, MemoryCheckpointer, Saved, TaskRecord,
    },
    *,
};

/// Notes the bytes of each write, and applies the changes as a store does.
#[derive(Default)]
struct Recorder {
    inner: MemoryCheckpointer,
    state: Mutex<BTreeMap<Arc<str>, Value>>,
    bytes: Mutex<Vec<usize>>,
}

#[async_trait::async_trait]
impl Checkpointer for Recorder {
    fn put(&self, write: CheckpointWrite) -> Ack {
        let mut state = self.state.lock().unwrap();
        if write.checkpoint.parent.is_none() {
            // A store keeps the whole state of a checkpoint without a parent.
            *state = write.state.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        }
        for (channel, change) in &write.changes {
            match change.apply(state.get(channel)).unwrap() {
                Some(value) => state.insert(channel.clone(), value),
                None => state.remove(channel),
            };
        }
        let whole: BTreeMap<Arc<str>, Value> = write.state.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        assert_eq!(*state, whole, "the changes come to the state");
        self.bytes.lock().unwrap().push(serde_json::to_string(&write.changes).unwrap().len());
        self.inner.put(write)
    }

    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack {
        self.inner.put_task(thread, ns, checkpoint, record)
    }

    async fn get(
        &self,
        thread: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<Saved>, CheckpointError> {
        self.inner.get(thread, ns, id).await
    }

    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError> {
        self.inner.list(thread, ns, filter).await
    }
}

/// 20 steps, each of which adds a small file to 50 large ones.
async fn sizes(reducer: Reducer, durability: Durability) -> Vec<usize> {
    let rebuilds = matches!(reducer, Reducer::Replace);
    let mut b = GraphBuilder::new("files");
    b.add_channel(ChannelSpec::new("files").reducer(reducer)).add_channel(ChannelSpec::new("n").reducer(Reducer::Add));
    b.add_node(
        "step",
        node(move |state: StateView, _: Context| async move {
            let n = state.get("n").unwrap().as_i64().unwrap();
            let mut files = Object::default();
            if rebuilds {
                for (name, text) in state.get("files").unwrap().as_object().unwrap().iter() {
                    files.insert(name.clone(), text.clone());
                }
            }
            files.insert(format!("/note-{n}.md"), "a small note");
            Ok(Update::new().set("files", Value::Object(files)).set("n", 1))
        }),
    );
    b.add_edge(START, "step").add_route(
        "step",
        "again",
        Arc::new(|state: &StateView, _: &Context| {
            let is_done = state.get("n").unwrap().as_i64().unwrap() >= 20;
            Ok(vec![if is_done { END } else { "step" }.into()])
        }),
        None,
    );
    let recorder = Arc::new(Recorder::default());
    let graph = b.compile().unwrap().with_checkpointer(recorder.clone());
    let files = (0..50).map(|i| (format!("/large-{i}.txt"), Value::from("x".repeat(10_000))));
    let files = Value::Object(files.map(|(k, v)| (Arc::<str>::from(k), v)).collect());
    let input = Value::Object([("files", files), ("n", Value::from(0))].into_iter().collect());
    let config = RunConfig { durability, ..RunConfig::thread(ThreadId(uuid::Uuid::now_v7())) };
    for _ in 0..2 {
        graph.invoke(input.clone(), config.clone()).await.unwrap();
    }
    recorder.bytes.lock().unwrap().clone()
}

#[tokio::test]
async fn a_step_that_adds_a_small_file_to_large_ones_stores_the_small_file() {
    for reducer in [Reducer::Merge, Reducer::Replace] {
        let sizes = sizes(reducer.clone(), Durability::Async).await;
        assert_eq!(sizes.iter().filter(|size| **size > 400_000).count(), 1, "the first input: {reducer:?} {sizes:?}");
        let steps = sizes.iter().filter(|size| **size < 200).count();
        assert!(steps >= 20, "{reducer:?}: {sizes:?}");
    }
}
