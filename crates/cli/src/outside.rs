//! What documents reach outside, as the operator has it: where calls may go, and which secrets go along.

use clap::Args;
use runloom_document::Registry;
use runloom_tools::{Allow, Egress, HttpClient, Secret};

/// What an operator may say about it.
#[derive(Args, Clone, Debug, Default)]
pub struct Outside {
    /// Where calls that documents make may go beside the public internet: a network such as 10.0.0.0/8, a host, host:port,
    /// or private for all of them. Repeat it, or separate with commas
    #[arg(long, env = "RUNLOOM_EGRESS_ALLOW", value_name = "WHERE", value_delimiter = ',')]
    egress_allow: Vec<Allow>,
    /// A variable of the environment that documents may have sent in a header, and where to: WEATHER_TOKEN@api.example.org.
    /// Over https, unless it says http://host. Repeat it, or separate with commas
    #[arg(long, env = "RUNLOOM_HTTP_SECRETS", value_name = "NAME@HOST", value_delimiter = ',')]
    http_secret: Vec<Secret>,
}

impl Outside {
    /// Where calls may go beside the public internet.
    pub fn allowed(&self) -> impl Iterator<Item = Allow> {
        self.egress_allow.iter().cloned()
    }

    /// What documents may use.
    pub fn registry(&self) -> Registry {
        Registry::new().http(HttpClient::new(Egress::new(self.allowed()), self.http_secret.iter().cloned()))
    }
}
