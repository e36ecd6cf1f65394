//! Which client certificate is which caller: by the URIs and DNS names in it, which TLS has verified.

use std::sync::Arc;

use globset::{Glob, GlobMatcher};
use runloom_core::{Caller, store::TenantId};
use runloom_net::ClientCertificates;
use webpki::EndEntityCert;

use crate::config::{Certificate, ConfigError, check_scopes, invalid, tenant};

/// The table of certificates.
pub(crate) struct Certificates(Vec<Entry>);

struct Entry {
    name: GlobMatcher,
    tenant: TenantId,
    scopes: Arc<[Arc<str>]>,
}

impl Certificates {
    pub fn new(entries: &[Certificate]) -> Result<Self, ConfigError> {
        let entries = entries.iter().enumerate().map(|(at, entry)| {
            let field = |name: &str| format!("certificates[{at}].{name}");
            check_scopes(&field("scopes"), &entry.scopes)?;
            Ok(Entry {
                name: Glob::new(&entry.name).map_err(|error| invalid(field("name"), error))?.compile_matcher(),
                tenant: tenant(&field("tenant"), entry.tenant.as_deref())?,
                scopes: entry.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            })
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller of a verified certificate. `None`: no entry matches it.
    pub fn caller(&self, certificates: &ClientCertificates) -> Option<Caller> {
        let certificate = EndEntityCert::try_from(certificates.first()?).ok()?;
        let names: Vec<&str> = certificate.valid_uri_names().chain(certificate.valid_dns_names()).collect();
        self.0.iter().find_map(|entry| {
            let name = names.iter().find(|name| entry.name.is_match(name))?;
            Some(Caller {
                tenant: entry.tenant.clone(),
                principal: Some((*name).into()),
                scopes: Some(entry.scopes.clone()),
                peer: None,
            })
        })
    }
}
