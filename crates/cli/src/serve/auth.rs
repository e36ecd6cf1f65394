//! Who may call: options, the reload of the file, and the rule that an open server needs TLS and authentication.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use clap::Args;
use runloom_auth::{Authenticator, Config, Issuer};
use runloom_net::{ClientAuth, Tls};

use super::{
    tls::folder_of,
    watch::{self, Watch},
};
use crate::failure::{Failure, Result};

/// The least length of the operator's key.
const MIN_ADMIN_KEY: usize = 20;

/// The options for authentication.
#[derive(Args, Clone, Debug)]
pub(super) struct AuthArgs {
    /// Identity providers and client certificates that are accepted, beside API keys: a YAML file. Turns authentication on.
    /// Reloaded when it changes
    #[arg(long, env = "RUNLOOM_AUTH", value_name = "FILE")]
    auth: Option<PathBuf>,
    /// Key of the operator, which may do everything in every tenant: to create the first API keys. At least 20 characters.
    /// Turns authentication on. Prefer the environment variable: other users of the machine can see a command line
    #[arg(long, env = "RUNLOOM_ADMIN_KEY", value_name = "KEY", hide_env_values = true)]
    admin_key: Option<String>,
    /// Accept tokens of this OpenID Connect provider, with the tenant in the claim `tenant` and the scopes in `scope`. Turns
    /// authentication on. More choices: --auth
    #[arg(long, env = "RUNLOOM_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    oidc_issuer: Option<String>,
    /// The audience that these tokens must have
    #[arg(long, env = "RUNLOOM_OIDC_AUDIENCE", value_name = "NAME", requires = "oidc_issuer")]
    oidc_audience: Option<String>,
    /// Listen on addresses that other machines can reach without TLS or without authentication
    #[arg(long, env = "RUNLOOM_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    insecure: bool,
}

impl AuthArgs {
    /// Who knows the callers. `None` without authentication.
    pub fn load(&self) -> Result<Option<Authenticator>, Failure> {
        let admin_key = self.admin_key.as_deref().filter(|key| !key.is_empty());
        if admin_key.is_some_and(|key| key.len() < MIN_ADMIN_KEY) {
            return Err(Failure::usage(format!(
                "the admin key has fewer than {MIN_ADMIN_KEY} characters; create one with: openssl rand -hex 32"
            )));
        }
        if admin_key.is_none() && self.auth.is_none() && self.oidc_issuer.is_none() {
            return Ok(None);
        }
        let authenticator = Authenticator::new(&self.config()?, admin_key);
        authenticator.map(Some).map_err(|error| Failure::usage(self.named(&error.to_string())))
    }

    /// The file, and the provider of the options.
    fn config(&self) -> Result<Config, Failure> {
        let mut config = match &self.auth {
            None => Config::default(),
            Some(path) => Config::read(path).map_err(|error| Failure::usage(error.to_string()))?,
        };
        if let Some((issuer, audience)) = self.oidc_issuer.clone().zip(self.oidc_audience.clone()) {
            config.issuers.push(Issuer::new(issuer, audience));
        }
        Ok(config)
    }

    /// An error of an entry, with the file that has it.
    fn named(&self, error: &str) -> String {
        self.auth.as_ref().map_or_else(|| error.to_owned(), |path| format!("{}: {error}", path.display()))
    }

    /// Reloads the file when it changes, until the watch is dropped. An invalid file is logged and changes nothing.
    pub fn watch(&self, authenticator: &Authenticator) -> Result<Option<Watch>> {
        let Some(folder) = self.auth.as_deref().and_then(folder_of) else { return Ok(None) };
        let (args, authenticator) = (self.clone(), authenticator.clone());
        let reload = move || {
            let (args, authenticator) = (args.clone(), authenticator.clone());
            async move {
                let config = args.config().map_err(|failure| failure.message().to_owned());
                let reloaded = config
                    .and_then(|config| authenticator.reload(&config).map_err(|error| args.named(&error.to_string())));
                match reloaded {
                    Ok(()) => {
                        tracing::info!(target: "runloom::audit", "the configuration of authentication was reloaded")
                    }
                    Err(error) => {
                        tracing::error!(
                            error,
                            "cannot reload the configuration of authentication; the previous one stays in use"
                        );
                    }
                }
            }
        };
        watch::folders(&BTreeSet::from([folder]), reload).map(Some)
    }

    /// Refuses addresses that other machines can reach, unless the server has TLS and knows its callers.
    pub fn check(&self, addresses: &[SocketAddr], tls: Option<&Tls>, has_auth: bool) -> Result<(), Failure> {
        let requires_certificates =
            tls.is_some_and(|tls| matches!(tls.files().client_ca, Some((_, ClientAuth::Required))));
        let lacks = match (tls.is_some(), has_auth || requires_certificates) {
            (true, true) => return Ok(()),
            (true, false) => "authentication",
            (false, true) => "TLS",
            (false, false) => "TLS and authentication",
        };
        for address in addresses.iter().filter(|address| !address.ip().is_loopback()) {
            if !self.insecure {
                return Err(Failure::usage(format!(
                    "other machines can reach {address}, and the server has no {lacks}"
                ))
                .hint(
                    "set --tls-cert and --tls-key, and RUNLOOM_ADMIN_KEY or --auth; or use --insecure behind a proxy that provides both",
                ));
            }
            tracing::warn!(%address, "other machines can reach this address, which has no {lacks}");
        }
        Ok(())
    }
}
