//! Reading a provider's model.

use std::{path::PathBuf, time::Duration};

use runloom_models::{ChatOptions, KeySource, ModelAccess, Provider, ProviderConfig, ProviderKind};

use super::{Fields, Reader, models::MAX_DELAY_MS};
use crate::{suggest::or_known, tree::Tree};

/// The most a call may be tried again: whoever needs more retries the node.
const MOST_RETRIES: u32 = 100;

/// The keys beside the model's options.
const KEYS: [&str; 10] = [
    "provider",
    "model",
    "base_url",
    "api_key_env",
    "api_key_file",
    "max_retries",
    "max_message_bytes",
    "connect_timeout_ms",
    "first_token_timeout_ms",
    "silence_timeout_ms",
];

impl Reader<'_> {
    /// A model of a provider, as far as whoever wrote the document may name it.
    pub(super) fn provider(&mut self, tree: &Tree, access: &ModelAccess) -> Option<Provider> {
        if let Some((key, _)) = self.entries(tree).iter().find(|(key, _)| &*key.name == "api_key") {
            self.fault(
                key.at,
                "a key does not belong into a document; put it into the environment of the server, and name the variable \
                 with `api_key_env: NAME` where it is not the usual one, or into a file, with `api_key_file: PATH`",
            );
            return None;
        }
        let known: Vec<&str> = KEYS.iter().chain(&ChatOptions::NAMES).copied().collect();
        let faults = self.problems.len();
        let fields = self.fields(tree, &known);
        let mut config = self.provider_place(&fields)?;
        self.limits(&fields, &mut config);
        for name in ChatOptions::NAMES {
            if let Some(tree) = fields.get(name)
                && let Err(why) = config.options.set(config.kind, name, &tree.to_value())
            {
                self.within(name, |r| r.fault(tree.at, why));
            }
        }
        if let Err((field, why)) = access.check(&config) {
            self.within(field, |r| r.fault(fields.place(field), why));
        }
        if self.problems.len() > faults {
            return None;
        }
        let place = if config.base_url.is_some() { "base_url" } else { "model" };
        Provider::new(config).map_err(|error| self.fault(fields.place(place), error.to_string())).ok()
    }

    /// Whose model it is, which one, where and with which key.
    pub(super) fn provider_place(&mut self, fields: &Fields<'_>) -> Option<ProviderConfig> {
        let kind = self.field(fields, "provider", |r, t| {
            let name = r.text(t)?;
            let kind = ProviderKind::named(name);
            if kind.is_none() {
                let near = or_known(name, ProviderKind::NAMES);
                r.fault(t.at, format!("there is no provider `{name}`{near}"));
            }
            kind
        });
        let Some(model) = self.field(fields, "model", |r, t| r.text(t)) else {
            if fields.get("model").is_none() {
                self.fault(fields.at, "a model of a provider needs `model`: its name there");
            }
            return None;
        };
        let mut config = ProviderConfig::new(kind?, model.clone());
        config.base_url = self.field(fields, "base_url", |r, t| r.text(t)).cloned();
        let env = self.field(fields, "api_key_env", |r, t| r.text(t)).cloned();
        let file = self.field(fields, "api_key_file", |r, t| r.text(t)).cloned();
        config.key = match (env, file) {
            (Some(_), Some(_)) => {
                self.fault(fields.place("api_key_file"), "`api_key_env` and `api_key_file` are one too many");
                return None;
            }
            (Some(name), None) => KeySource::Env(name),
            (None, Some(path)) => KeySource::File(PathBuf::from(&*path)),
            (None, None) => KeySource::Usual,
        };
        Some(config)
    }

    /// How often a call may be tried again.
    pub(super) fn tries(&mut self, tree: &Tree) -> Option<u32> {
        let tries = self.integer(tree, 0)?;
        if tries > u64::from(MOST_RETRIES) {
            self.fault(tree.at, format!("expected a number from 0 to {MOST_RETRIES}, found `{tries}`"));
        }
        u32::try_from(tries).ok()
    }

    fn limits(&mut self, fields: &Fields<'_>, config: &mut ProviderConfig) {
        if let Some(tries) = self.field(fields, "max_retries", Self::tries) {
            config.max_retries = tries;
        }
        if let Some(bytes) = self.field(fields, "max_message_bytes", |r, t| r.integer(t, 1)) {
            config.max_message_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        let waits = &mut config.waits;
        for (name, wait) in [
            ("connect_timeout_ms", &mut waits.connect),
            ("first_token_timeout_ms", &mut waits.first_token),
            ("silence_timeout_ms", &mut waits.silence),
        ] {
            if let Some(ms) = self.field(fields, name, |r, t| r.number(t, 1.0)) {
                *wait = Duration::from_secs_f64(ms.min(MAX_DELAY_MS) / 1000.0);
            }
        }
    }
}
