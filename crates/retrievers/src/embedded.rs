//! An index in memory: every vector is looked at, which is exact, and quick enough for a hundred thousand of them.

use std::{cmp::Ordering, collections::BinaryHeap, fmt, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};
use runloom_engine::retriever::{Document, Embeddings, RetrieveError, Search, VectorIndex};
use tokio::sync::OnceCell;

/// How many texts are embedded with one call.
const BATCH: usize = 100;
/// How many numbers are looked at without leaving the thread that runs the graph: about a millisecond.
const AT_ONCE: usize = 1 << 20;

/// Documents and their vectors, in memory. The vectors are made with the first search.
#[derive(Clone)]
pub struct EmbeddedIndex {
    inner: Arc<Inner>,
}

struct Inner {
    documents: Vec<Document>,
    embeddings: Arc<dyn Embeddings>,
    vectors: OnceCell<Vectors>,
}

/// Vectors of length one, one after the other.
struct Vectors {
    dimensions: usize,
    numbers: Vec<f32>,
}

impl fmt::Debug for EmbeddedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedIndex").field("documents", &self.inner.documents.len()).finish_non_exhaustive()
    }
}

impl EmbeddedIndex {
    /// An index of documents.
    pub fn new(documents: Vec<Document>, embeddings: Arc<dyn Embeddings>) -> Self {
        Self { inner: Arc::new(Inner { documents, embeddings, vectors: OnceCell::new() }) }
    }
}

impl VectorIndex for EmbeddedIndex {
    fn search(&self, search: Search) -> BoxFuture<'static, Result<Vec<Document>, RetrieveError>> {
        let inner = self.inner.clone();
        async move {
            let vectors = inner.vectors.get_or_try_init(|| inner.embed()).await?;
            if vectors.dimensions != search.vector.len() && !inner.documents.is_empty() {
                return Err(RetrieveError::lasting(format!(
                    "the question's vector has {} dimensions, and those of the index have {}",
                    search.vector.len(),
                    vectors.dimensions
                )));
            }
            if vectors.numbers.len() <= AT_ONCE {
                return Ok(inner.closest(&search));
            }
            let found = tokio::task::spawn_blocking(move || inner.closest(&search)).await;
            found.map_err(|error| RetrieveError::passing(format!("the search broke off: {error}")))
        }
        .boxed()
    }
}

impl Inner {
    async fn embed(&self) -> Result<Vectors, RetrieveError> {
        let mut vectors = Vectors { dimensions: 0, numbers: Vec::new() };
        for batch in self.documents.chunks(BATCH) {
            let texts = batch.iter().map(|document| document.page_content.clone()).collect();
            let made = self.embeddings.embed(texts).await?;
            let dimensions = made.first().map_or(0, Vec::len);
            let is_first = vectors.numbers.is_empty();
            if made.len() != batch.len() || !(is_first || vectors.dimensions == dimensions) {
                return Err(RetrieveError::lasting("the embeddings gave other vectors than they were asked for"));
            }
            vectors.dimensions = dimensions;
            for mut vector in made {
                if vector.len() != dimensions {
                    return Err(RetrieveError::lasting("the embeddings gave vectors of unequal length"));
                }
                normalise(&mut vector);
                vectors.numbers.extend(vector);
            }
        }
        Ok(vectors)
    }

    fn closest(&self, search: &Search) -> Vec<Document> {
        let Some(vectors) = self.vectors.get() else { return Vec::new() };
        let mut wanted = search.vector.clone();
        normalise(&mut wanted);
        // The farthest of the closest so far is on top.
        let mut best: BinaryHeap<Near> = BinaryHeap::new();
        for (at, vector) in vectors.numbers.chunks_exact(vectors.dimensions.max(1)).enumerate() {
            let near = Near { similarity: vector.iter().zip(&wanted).map(|(x, y)| x * y).sum(), at };
            if best.len() == search.k && best.peek().is_some_and(|last| near >= *last) {
                continue;
            }
            let metadata = &self.documents[at].metadata;
            if !search.filter.iter().all(|(key, value)| metadata.get(key) == Some(value)) {
                continue;
            }
            best.push(near);
            if best.len() > search.k {
                best.pop();
            }
        }
        best.into_sorted_vec().into_iter().map(|near| self.documents[near.at].clone()).collect()
    }
}

/// How close a document is. What is closer comes first; of two alike the one that stands first.
#[derive(PartialEq)]
struct Near {
    similarity: f32,
    at: usize,
}

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.at.cmp(&other.at))
    }
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use runloom_engine::{Object, value};

    use super::*;

    /// Vectors written as texts: `1 0 0.5`.
    #[derive(Default)]
    struct Written {
        calls: AtomicUsize,
        fails_first: bool,
    }

    impl Embeddings for Written {
        fn embed(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, RetrieveError>> {
            let call = self.calls.fetch_add(1, Relaxed);
            let fails = self.fails_first && call == 0;
            async move {
                if fails {
                    return Err(RetrieveError::passing("not now"));
                }
                Ok(texts.iter().map(|t| t.split(' ').map(|n| n.parse().unwrap()).collect()).collect())
            }
            .boxed()
        }
    }

    fn document(at: usize, vector: &str) -> Document {
        let metadata = value!({"odd": at % 2 == 1, "n": at as u64}).as_object().unwrap().clone();
        Document { id: Some(at.to_string()), page_content: vector.to_owned(), metadata }
    }

    fn index(vectors: &[&str], embeddings: Written) -> (EmbeddedIndex, Arc<Written>) {
        let embeddings = Arc::new(embeddings);
        let documents = vectors.iter().enumerate().map(|(at, vector)| document(at, vector)).collect();
        (EmbeddedIndex::new(documents, embeddings.clone()), embeddings)
    }

    async fn found(index: &EmbeddedIndex, vector: &[f32], k: usize, filter: Object) -> Vec<String> {
        let search = Search { vector: vector.to_vec(), k, filter };
        index.search(search).await.unwrap().into_iter().map(|document| document.id.unwrap()).collect()
    }

    #[tokio::test]
    async fn the_closest_come_first_whatever_their_length() {
        let (index, _) = index(&["1 0", "100 100", "0 1", "-1 0", "0 0", "1 0.1"], Written::default());
        let none = Object::default;
        assert_eq!(found(&index, &[3.0, 0.0], 3, none()).await, ["0", "5", "1"]);
        assert_eq!(found(&index, &[3.0, 0.0], 9, none()).await, ["0", "5", "1", "2", "4", "3"]);
        let odd = value!({"odd": true}).as_object().unwrap().clone();
        assert_eq!(found(&index, &[3.0, 0.0], 2, odd).await, ["5", "1"]);
    }

    #[tokio::test]
    async fn vectors_are_made_once_and_again_where_that_failed() {
        let texts: Vec<String> = (0..250).map(|n| format!("{n} 100")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (index, embeddings) = index(&texts, Written { fails_first: true, ..Written::default() });
        let search = Search { vector: vec![1.0, 0.0], k: 1, filter: Object::default() };
        assert!(index.search(search).await.unwrap_err().retryable);
        assert_eq!(found(&index, &[1.0, 0.0], 1, Object::default()).await, ["249"]);
        assert_eq!(found(&index, &[0.0, 1.0], 1, Object::default()).await, ["0"]);
        assert_eq!(embeddings.calls.load(Relaxed), 1 + 3, "three batches, once");
    }

    #[tokio::test]
    async fn a_question_of_other_dimensions_is_an_error() {
        let (index, _) = index(&["1 0"], Written::default());
        let search = Search { vector: vec![1.0], k: 1, filter: Object::default() };
        assert!(index.search(search).await.unwrap_err().message.contains("has 1 dimensions"));
    }

    #[tokio::test]
    async fn a_large_index_gives_what_a_plain_sort_gives() {
        let documents: Vec<Document> = (0..20_000_u64)
            .map(|n| {
                let (x, y) = ((n * 7919 % 1000) as f32 / 500.0 - 1.0, (n * 104_729 % 997) as f32 / 498.0 - 1.0);
                let page_content = format!("{x} {y}{}", " 0".repeat(62));
                Document { id: Some(n.to_string()), page_content, metadata: Object::default() }
            })
            .collect();
        let wanted: Vec<f32> = std::iter::once(0.3).chain([0.9]).chain([0.0; 62]).collect();
        let similarity = |document: &Document| {
            let mut vector: Vec<f32> = document.page_content.split(' ').map(|n| n.parse().unwrap()).collect();
            normalise(&mut vector);
            vector.iter().zip(&wanted).map(|(x, y)| x * y).sum::<f32>()
        };
        let mut plain: Vec<(f32, &Document)> = documents.iter().map(|d| (similarity(d), d)).collect();
        plain.sort_by(|(x, _), (y, _)| y.total_cmp(x));
        let expected: Vec<f32> = plain.iter().take(50).map(|(similarity, _)| *similarity).collect();
        let index = EmbeddedIndex::new(documents.clone(), Arc::new(Written::default()));
        let search = Search { vector: wanted.clone(), k: 50, filter: Object::default() };
        let found = index.search(search).await.unwrap();
        let got: Vec<f32> = found.iter().map(similarity).collect();
        assert!(got.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-5), "{got:?} {expected:?}");
    }
}
