//! Keys: where they are, and that nothing shows them.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{ProviderConfig, fault::Fault};

/// Where a model's key is. It is looked up with every call, so that a key may be changed while a server runs.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum KeySource {
    /// In the provider's usual variable, and sent to the provider's own address only. With a `base_url`: none.
    #[default]
    Usual,
    /// In a variable.
    Env(Arc<str>),
    /// In a file, which holds nothing else.
    File(PathBuf),
    /// Here, given by a program.
    Given(Secret),
    /// There is none.
    None,
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("Usual"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Given(_) => f.write_str("Given(…)"),
            Self::None => f.write_str("None"),
        }
    }
}

/// A key. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A text without this key in it: providers repeat wrong ones in their errors.
    pub(crate) fn hide_in(&self, text: String) -> String {
        // A short one would be found in any text.
        if self.0.len() >= 6 && text.contains(&*self.0) { text.replace(&*self.0, "…") } else { text }
    }
}

impl From<&str> for Secret {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl ProviderConfig {
    /// The key, where there is to be one.
    pub(crate) async fn secret(&self) -> Result<Option<Secret>, Fault> {
        let from = |name: &str| std::env::var(name).ok().filter(|key| !key.trim().is_empty());
        let found = match &self.key {
            KeySource::None => return Ok(None),
            KeySource::Given(secret) => return Ok(Some(secret.clone())),
            // The usual key of one provider is never sent to another.
            KeySource::Usual if self.base_url.is_some() => return Ok(None),
            KeySource::Usual => {
                let names = self.kind.key_variables();
                let found = names.iter().find_map(|name| from(name));
                if found.is_none() && self.kind.needs_key() {
                    let first = names[0];
                    return Err(Fault::lasting(format!(
                        "there is no key: the variable {first} is not set where the server runs; set it there, or name \
                         another variable with `api_key_env`, or a file with `api_key_file`"
                    )));
                }
                found
            }
            KeySource::Env(name) => Some(from(name).ok_or_else(|| {
                Fault::lasting(format!(
                    "there is no key: the variable {name}, which `api_key_env` names, is not set where the server runs"
                ))
            })?),
            KeySource::File(path) => Some(read(path).await?),
        };
        let Some(found) = found else { return Ok(None) };
        let key = found.trim();
        if key.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return Err(Fault::lasting("the key is none: it has line breaks, or characters that no header may have"));
        }
        Ok(Some(key.into()))
    }
}

/// No key is longer than this.
const MAX_KEY: u64 = 16 << 10;

async fn read(path: &std::path::Path) -> Result<String, Fault> {
    let shown = path.display();
    let wrong =
        |why: String| Fault::lasting(format!("there is no key: the file {shown}, which `api_key_file` names, {why}"));
    let meta = tokio::fs::metadata(path).await.map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if !meta.is_file() || meta.len() > MAX_KEY {
        return Err(wrong(format!("is no file of at most {MAX_KEY} bytes")));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if text.trim().is_empty() { Err(wrong("is empty".to_owned())) } else { Ok(text) }
}
