//! Which keys, files and addresses a document may name that came from somebody else than the operator.

use std::sync::Arc;

use super::{KeySource, ProviderConfig, config::check_url};
use crate::Error;

/// Who wrote a document, and so what it may name.
///
/// The operator's own documents may name any variable, file and address. One that a caller registered may use each
/// provider at its own address with its usual key, and what the operator [allowed](Allowed) beside; else whoever may
/// register a document could have any variable or file of the server sent to a server of theirs, or have this one call
/// into its own network.
#[derive(Clone, Debug, Default)]
pub enum ModelAccess {
    /// The operator.
    #[default]
    Operator,
    /// A caller, with what the operator allowed.
    Caller(Arc<[Allowed]>),
}

/// An address that documents of callers may name, with the variable of the key that goes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    url: String,
    key: Option<Arc<str>>,
}

impl Allowed {
    /// Reads one: `https://api.groq.com/openai/v1=GROQ_API_KEY`, or an address alone, which gets no key.
    pub fn read(text: &str) -> Result<Self, Error> {
        let (url, key) = match text.rsplit_once('=') {
            Some((url, key)) => (url, Some(key)),
            None => (text, None),
        };
        let named = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(key) = key.filter(|key| !named(key)) {
            return Err(Error::BaseUrl { why: format!("`{key}` is no name of a variable") });
        }
        Ok(Self { url: plain(url)?, key: key.map(Into::into) })
    }
}

/// An address as it is compared.
fn plain(url: &str) -> Result<String, Error> {
    Ok(check_url(url)?.as_str().trim_end_matches('/').to_owned())
}

impl ModelAccess {
    /// Whether a model may be configured so. The fault names the field that may not.
    pub fn check(&self, config: &ProviderConfig) -> Result<(), (&'static str, String)> {
        let Self::Caller(allowed) = self else { return Ok(()) };
        if matches!(config.key, KeySource::File(_)) {
            return Err(("api_key_file", "a document that was registered cannot name a file of the server; the operator's own, in its folder, can".to_owned()));
        }
        let named = match &config.key {
            KeySource::Env(name) => Some(&**name),
            _ => None,
        };
        let Some(url) = &config.base_url else {
            return match named {
                Some(name) if !config.kind.key_variables().contains(&name) => {
                    let usual = config.kind.key_variables().join(" or ");
                    Err((
                        "api_key_env",
                        format!(
                            "a document that was registered can name {usual} only; the operator's own, in its folder, can name any"
                        ),
                    ))
                }
                _ => Ok(()),
            };
        };
        let url = plain(url).map_err(|e| ("base_url", e.to_string()))?;
        let mut here = allowed.iter().filter(|a| a.url == url).peekable();
        if here.peek().is_none() {
            return Err((
                "base_url",
                format!(
                    "a document that was registered cannot name an address of its own; the operator allows one with `--allow-model {url}=KEY_VARIABLE`"
                ),
            ));
        }
        match named {
            Some(name) if !here.any(|a| a.key.as_deref() == Some(name)) => Err((
                "api_key_env",
                format!("{name} may not be sent to {url}; the operator allows it with `--allow-model {url}={name}`"),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ProviderKind, *};

    fn model() -> ProviderConfig {
        ProviderConfig::new(ProviderKind::OpenAi, "gpt-4o-mini")
    }

    fn env(name: &str) -> KeySource {
        KeySource::Env(name.into())
    }

    #[test]
    fn a_caller_may_name_usual_keys_at_usual_addresses_and_what_was_allowed() {
        let allowed = ["https://api.groq.com/openai/v1=GROQ_API_KEY", "http://127.0.0.1:8000/v1/"];
        let caller = ModelAccess::Caller(allowed.iter().map(|a| Allowed::read(a).unwrap()).collect());
        let groq = "https://api.groq.com/openai/v1/";
        for fine in [
            model(),
            model().key(env("OPENAI_API_KEY")),
            model().base_url(groq),
            model().base_url(groq).key(env("GROQ_API_KEY")),
            model().base_url("http://127.0.0.1:8000/v1"),
        ] {
            assert_eq!(caller.check(&fine), Ok(()), "{fine:?}");
        }
        for (field, wrong) in [
            ("api_key_env", model().key(env("AWS_SECRET_ACCESS_KEY"))),
            ("api_key_env", model().key(env("ANTHROPIC_API_KEY"))),
            ("api_key_file", model().key(KeySource::File("/etc/shadow".into()))),
            ("api_key_file", model().base_url(groq).key(KeySource::File("/etc/shadow".into()))),
            ("base_url", model().base_url("https://evil.example/v1").key(env("OPENAI_API_KEY"))),
            ("base_url", model().base_url("http://169.254.169.254/latest")),
            ("base_url", model().base_url("https://api.groq.com/openai/v1/more")),
            ("api_key_env", model().base_url(groq).key(env("OPENAI_API_KEY"))),
            ("api_key_env", model().base_url("http://127.0.0.1:8000/v1").key(env("GROQ_API_KEY"))),
        ] {
            let fault = caller.check(&wrong).unwrap_err();
            assert_eq!(fault.0, field, "{wrong:?}: {}", fault.1);
            assert_eq!(ModelAccess::Operator.check(&wrong), Ok(()));
        }
    }

    #[test]
    fn what_is_allowed_is_an_address_and_perhaps_a_variable() {
        for wrong in [
            "",
            "GROQ_API_KEY",
            "ftp://host=KEY",
            "https://user:pass@host/v1",
            "https://host/v1?key=1",
            "https://host/v1=A B",
        ] {
            assert!(Allowed::read(wrong).is_err(), "{wrong}");
        }
    }
}
