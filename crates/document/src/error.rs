//! What is wrong with documents, each fault with its place.

use std::{fmt, sync::Arc};

/// An error of the crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Documents do not hold together; every fault found, not the first.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// A file or a folder cannot be read.
    #[error("{path}: {message}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        message: String,
    },
    /// A value does not fit its JSON Schema.
    #[error("graph `{graph}`: {what}: {message}")]
    Unfit {
        /// The graph.
        graph: String,
        /// What of: `context`, `input `topic``.
        what: String,
        /// What does not fit, and where in the value.
        message: String,
    },
}

impl Error {
    /// The faults of documents; none where the error is another.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            _ => &[],
        }
    }
}

/// A fault of a document, or a warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The document's file, or what its caller calls it.
    pub file: Arc<str>,
    /// The line, from 1; 0 where the place is not known.
    pub line: u64,
    /// The column, from 1; 0 where the place is not known.
    pub column: u64,
    /// Where in the document: ``node `write`, update.log``. Empty for the document as a whole.
    pub place: String,
    /// What was found there, what was expected, what may be meant.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}
