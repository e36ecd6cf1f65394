//! Models by one line, as LangChain's users make them.

use super::{Provider, ProviderConfig, ProviderKind};
use crate::Error;

/// A model by its provider and name: `openai:gpt-4o-mini`, `anthropic:claude-sonnet-4-5`, `google_genai:gemini-2.5-flash`,
/// `ollama:qwen3`. Where the name says whose it is (`gpt-…`, `o3…`, `claude…`, `gemini…`), it stands alone.
///
/// The key comes from the provider's usual variable, and is looked for with the first call: without one, that call fails.
/// [`ProviderConfig`] has all the rest: other addresses, keys, options, limits.
///
/// ```
/// use runloom_models::init_chat_model;
/// use runloom_engine::model::ChatModel;
///
/// assert_eq!(init_chat_model("openai:gpt-4o-mini")?.name(), "ChatOpenAI");
/// assert_eq!(init_chat_model("claude-sonnet-4-5")?.name(), "ChatAnthropic");
/// assert_eq!(
///     init_chat_model("qwen3").unwrap_err().to_string(),
///     "nobody knows whose model `qwen3` is; write the provider before it, as in `openai:qwen3` (openai, anthropic, gemini, google_genai, ollama)"
/// );
/// # Ok::<(), runloom_models::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::UnknownProvider`] where the word before the colon is no provider, [`Error::NoProvider`] where there is none and
/// the name does not tell, [`Error::ModelName`] where the name is empty or has white space in it.
pub fn init_chat_model(name: &str) -> Result<Provider, Error> {
    let providers = || ProviderKind::NAMES.join(", ");
    let (kind, model) = match name.split_once(':') {
        Some((before, model)) => match (ProviderKind::named(before), ProviderKind::of_model(name)) {
            (Some(kind), _) => (kind, model),
            // A fine-tuned one: `gpt-4o-mini:ft-…`.
            (None, Some(kind)) => (kind, name),
            (None, None) => return Err(Error::UnknownProvider { name: before.to_owned(), providers: providers() }),
        },
        None => match ProviderKind::of_model(name) {
            Some(kind) => (kind, name),
            None if name.trim().is_empty() => return Err(Error::ModelName { name: name.to_owned() }),
            None => return Err(Error::NoProvider { name: name.to_owned(), providers: providers() }),
        },
    };
    Provider::new(ProviderConfig::new(kind, model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_model_it_is() {
        for (name, class, model) in [
            ("openai:gpt-4o-mini", ProviderKind::OpenAi, "gpt-4o-mini"),
            ("gpt-4o-mini", ProviderKind::OpenAi, "gpt-4o-mini"),
            ("o3-mini", ProviderKind::OpenAi, "o3-mini"),
            ("gpt-4o-mini:ft-us", ProviderKind::OpenAi, "gpt-4o-mini:ft-us"),
            ("google_genai:gemini-2.5-flash", ProviderKind::Gemini, "gemini-2.5-flash"),
            ("gemini-2.5-flash", ProviderKind::Gemini, "gemini-2.5-flash"),
            ("claude-sonnet-4-5", ProviderKind::Anthropic, "claude-sonnet-4-5"),
            ("ollama:qwen3:4b", ProviderKind::Ollama, "qwen3:4b"),
        ] {
            let made = init_chat_model(name).unwrap();
            assert_eq!((made.config().kind, &*made.config().model), (class, model), "{name}");
        }
        assert!(matches!(init_chat_model("acme:x"), Err(Error::UnknownProvider { .. })));
        assert!(matches!(init_chat_model("openai:"), Err(Error::ModelName { .. })));
        assert!(matches!(init_chat_model(""), Err(Error::ModelName { .. })));
        assert!(matches!(init_chat_model("llama3"), Err(Error::NoProvider { .. })));
    }
}
