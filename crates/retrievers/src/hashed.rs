//! Embeddings that need no model: words and their pieces, hashed into a vector. The same text gets the same vector
//! anywhere, and texts that share words lie close together; what they mean is not known.

use futures_util::future::{BoxFuture, FutureExt, ready};
use runloom_engine::retriever::{Embeddings, RetrieveError};
use xxhash_rust::xxh3::xxh3_64;

/// Words and their pieces, hashed into a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedEmbeddings {
    dimensions: usize,
}

impl Default for HashedEmbeddings {
    fn default() -> Self {
        Self::new(256)
    }
}

impl HashedEmbeddings {
    /// Vectors of so many dimensions, 1 at least.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions: dimensions.max(1) }
    }

    fn vector(self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; self.dimensions];
        let mut add = |piece: &str, weight: f32| {
            let hash = xxh3_64(piece.as_bytes());
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            vector[(hash % self.dimensions as u64) as usize] += sign * weight;
        };
        let lower = text.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            // Short words are in every text.
            add(word, if word.chars().count() > 3 { 1.0 } else { 0.3 });
            // Pieces bring the forms of a word together.
            let padded: Vec<char> = format!("<{word}>").chars().collect();
            for piece in padded.windows(4) {
                add(&piece.iter().collect::<String>(), 0.3);
            }
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
        vector
    }
}

impl Embeddings for HashedEmbeddings {
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, RetrieveError>> {
        ready(Ok(texts.iter().map(|text| self.vector(text)).collect())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_lie_closer_together() {
        let embeddings = HashedEmbeddings::default();
        let near = |a: &str, b: &str| -> f32 {
            embeddings.vector(a).iter().zip(embeddings.vector(b)).map(|(x, y)| x * y).sum()
        };
        let question = "How do I cancel a run?";
        assert!(near(question, "A run is cancelled by its id.") > near(question, "Threads keep their checkpoints."));
        assert!((near("Same text", "same  TEXT!") - 1.0).abs() < 1e-5);
        assert_eq!(embeddings.vector("…"), vec![0.0; 256]);
    }
}
