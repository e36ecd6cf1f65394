//! What can be wrong with a model as it is configured.

/// A model cannot be made of what it was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A scripted model has nothing to say.
    #[error("a scripted model needs at least one response")]
    NoResponses,
    /// A model's name is empty, or no name.
    #[error(
        "`{name}` is no name of a model: it is made of letters, digits and `. _ : / @ + -`, without empty parts or `..`"
    )]
    ModelName {
        /// What was given.
        name: String,
    },
    /// Nothing says whose model it is.
    #[error("nobody knows whose model `{name}` is; write the provider before it, as in `openai:{name}` ({providers})")]
    NoProvider {
        /// The model's name.
        name: String,
        /// The providers there are.
        providers: String,
    },
    /// There is no provider of this name.
    #[error("there is no provider `{name}`; there are {providers}")]
    UnknownProvider {
        /// The name.
        name: String,
        /// The providers there are.
        providers: String,
    },
    /// A provider makes no embeddings.
    #[error("{provider} makes no embeddings; openai, gemini and ollama do")]
    NoEmbeddings {
        /// The provider.
        provider: &'static str,
    },
    /// An address is none that may be called.
    #[error("the address is not usable: {why}")]
    BaseUrl {
        /// Why not.
        why: String,
    },
}
