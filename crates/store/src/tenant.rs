//! Tenants: whose an object is.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, Result};

/// Whose an object is. Every operation on a tenant's objects names its tenant; what belongs to another tenant is answered
/// as if it did not exist.
///
/// A tenant's id has 1 to 64 characters: ASCII letters, digits, `.`, `_`, `-`, `@`, `:`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(
    /// None for the default tenant, so that the usual case neither allocates nor counts references.
    Option<Arc<str>>,
);

/// The id of [`TenantId::default`].
const DEFAULT: &str = "default";
/// The most bytes of an id.
const MAX_LEN: usize = 64;

impl TenantId {
    /// The tenant of this id.
    pub fn new(id: &str) -> Result<Self> {
        if id == DEFAULT {
            return Ok(Self::default());
        }
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
        if id.is_empty() || id.len() > MAX_LEN || !id.bytes().all(is_valid) {
            return Err(Error::Invalid(format!(
                "invalid tenant id: use 1 to {MAX_LEN} ASCII letters, digits or any of `._-@:`"
            )));
        }
        Ok(Self(Some(id.into())))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(DEFAULT)
    }

    /// True for the tenant of a server without authentication.
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantId {
    type Err = Error;
    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_checked_and_the_default_has_one_form() {
        assert_eq!(TenantId::new("default").unwrap(), TenantId::default());
        assert_eq!(TenantId::default().as_str(), "default");
        assert_eq!(TenantId::new("a.b_c-d@e:f").unwrap().as_str(), "a.b_c-d@e:f");
        for bad in ["", "a b", "ü", "a/b", &"x".repeat(65)] {
            assert!(matches!(TenantId::new(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }
}
