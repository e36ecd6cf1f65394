//! Asking a retriever, from a node or for a tool.

use std::sync::Arc;

use runloom_engine::{Context, NodeError, NodeFailure, Object, Value, retriever::Document};
use runloom_retrievers::Retriever;

use super::Run;
use crate::read::given::Given;

/// The `retrieve` action.
pub(crate) struct Retrieve {
    /// The retriever's name, which its events carry.
    pub name: Arc<str>,
    pub retriever: Retriever,
    pub query: Given,
    pub k: Option<Given>,
    pub filter: Option<Given>,
    /// The channel that takes the documents.
    pub write: Option<Arc<str>>,
}

/// The type of the error of a retriever that found nothing because it failed.
pub(super) const RETRIEVER_ERROR: &str = "RetrieverError";

impl Retrieve {
    /// The documents, in LangChain's JSON.
    pub async fn run(&self, run: &mut Run) -> Result<Value, NodeError> {
        let query = match run.eval(&self.query)? {
            Value::String(text) => text,
            other => return Err(wrong(format!("`query` of `retrieve` has to be a text, not {}", other.kind()))),
        };
        let k =
            match self.k.as_ref().map(|k| run.eval(k)).transpose()? {
                None | Some(Value::Null) => None,
                Some(k) => Some(k.as_u64().and_then(|k| usize::try_from(k).ok()).ok_or_else(|| {
                    wrong(format!("`k` of `retrieve` has to be an integer from 0 on, not {}", k.kind()))
                })?),
            };
        let filter = match self.filter.as_ref().map(|filter| run.eval(filter)).transpose()? {
            None | Some(Value::Null) => Object::default(),
            Some(Value::Object(filter)) => filter,
            Some(other) => {
                return Err(wrong(format!("`filter` of `retrieve` has to be an object, not {}", other.kind())));
            }
        };
        let found = ask(&run.cx, &self.name, &self.retriever, &query, k, filter).await?;
        if let Some(channel) = &self.write {
            run.write(channel, found.clone());
        }
        Ok(found)
    }
}

/// Asks a retriever, with its events.
pub(super) async fn ask(
    cx: &Context,
    name: &Arc<str>,
    retriever: &Retriever,
    query: &str,
    k: Option<usize>,
    filter: Object,
) -> Result<Value, NodeError> {
    let work = async {
        let found = retriever.retrieve(query, k, filter).await.map_err(|error| {
            let message = format!("retriever `{name}`: {error}");
            NodeError::Failed(NodeFailure { retryable: error.retryable, ..NodeFailure::new(RETRIEVER_ERROR, message) })
        })?;
        Ok(Value::from(found.iter().map(Document::to_value).collect::<Vec<_>>()))
    };
    cx.retriever(name.clone(), query, work).await
}

/// What a model reads of documents: their texts.
pub(super) fn texts(found: &Value) -> Value {
    let found = found.as_list().into_iter().flat_map(|found| found.iter());
    found.filter_map(|document| document.get_str("page_content")).collect::<Vec<_>>().join("\n\n").into()
}

fn wrong(message: String) -> NodeError {
    NodeError::Failed(NodeFailure { retryable: false, ..NodeFailure::new(RETRIEVER_ERROR, message) })
}
