//! `runloom keys`: creates, lists and revokes API keys.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use runloom::v1::{ApiKey, CreateKeyRequest, ListKeysRequest};
use serde_json::json;

use crate::{
    backend::ServerArgs,
    exit::{self, Exit},
    failure::{Failure, Result},
    options::nonzero_duration,
    runs::time,
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  export RUNLOOM_API_KEY=...                                      the operator's key
  runloom keys create --tenant acme --scopes runs,threads --expires 90d
  runloom keys create --name ci --scopes runs:read
  runloom keys create --scopes workers:attach:orders              for the workers of a queue
  runloom keys list
  runloom keys revoke 3f6c0a7e2d11b951

Scopes: threads, runs, assistants, store, crons with :read or :write; graphs with :read or :admin; \
workers:read, workers:attach:QUEUE; metrics:read; admin. A scope without its action has all actions.";

/// Manage the API keys of a server with authentication
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Keys {
    #[command(subcommand)]
    action: KeysAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand, Debug)]
enum KeysAction {
    /// Create a key and print it. It cannot be shown again
    #[command(after_help = "Example: runloom keys create --tenant acme --scopes runs,threads --expires 90d")]
    Create {
        /// What its callers may do. Can be repeated, or separated by commas
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// The tenant of its callers. Default: the tenant of the key that this command uses
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        tenant: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        name: String,
        /// How long it is valid: 90d. Default: until it is revoked
        #[arg(long, value_name = "TIME", value_parser = nonzero_duration)]
        expires: Option<Duration>,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// List keys, oldest first, without their secrets
    #[command(after_help = "Example: runloom keys list --tenant acme")]
    List {
        /// Only keys of this tenant
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        tenant: String,
        /// Print each key as a JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: the next call with it is refused
    #[command(after_help = "Example: runloom keys revoke 3f6c0a7e2d11b951")]
    Revoke {
        /// Id of the key
        id: String,
    },
}

impl Keys {
    /// Runs the command.
    pub async fn run(self) -> Result {
        let client = self.server.connect().await?;
        match self.action {
            KeysAction::Create { scopes, tenant, name, expires, json } => {
                let expire_time = expires.map(expiry).transpose()?.map(Into::into);
                let made = client.create_key(CreateKeyRequest { name, tenant, scopes, expire_time }).await?;
                if json {
                    let key = made.key.as_ref().map(|key| to_json("ApiKey", key));
                    table::json(&json!({"secret": made.secret, "key": key}))?;
                } else {
                    writeln!(anstream::stdout().lock(), "{}", made.secret)?;
                }
            }
            KeysAction::List { tenant, json } => {
                let (mut keys, mut request) =
                    (Vec::new(), ListKeysRequest { tenant, page_size: 1000, ..Default::default() });
                loop {
                    let page = client.list_keys(request.clone()).await?;
                    keys.extend(page.keys);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                list(&keys, json)?;
            }
            KeysAction::Revoke { id } => client.revoke_key(id).await?,
        }
        Ok(Exit::Ok)
    }
}

fn expiry(after: Duration) -> Result<SystemTime, Failure> {
    SystemTime::now().checked_add(after).ok_or_else(|| Failure::usage("--expires is too long"))
}

fn list(keys: &[ApiKey], json: bool) -> std::io::Result<()> {
    if json {
        return keys.iter().try_for_each(|key| table::json(&to_json("ApiKey", key)));
    }
    let mut table = Table::new(["ID", "TENANT", "SCOPES", "NAME", "CREATED", "EXPIRES"]);
    for key in keys {
        let expires = key.expire_time.map_or_else(|| "never".to_owned(), |at| at.to_string());
        table.row([
            key.id.clone(),
            key.tenant.clone(),
            key.scopes.join(","),
            key.name.clone(),
            time(key.create_time),
            expires,
        ]);
    }
    table.print("no keys")
}
