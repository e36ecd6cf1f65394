//! What can be wrong with a model as it is configured.

/// A model cannot be made of what it was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A scripted model has nothing to say.
    #[error("a scripted model needs at least one response")]
    NoResponses,
}
