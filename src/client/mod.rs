//! A typed client: a method for every RPC, and streams that rejoin by themselves.
//!
//! Calls that are safe to repeat are retried if the server is temporarily unavailable; see [`RetryPolicy`]. The client requests JSON as text, the exact
//! encoding. It generates a request id for every new run, and an id for every new thread, assistant and cron, so that creating them is safe to repeat.

mod assistants;
mod crons;
mod graphs;
mod requests;
mod retry;
mod runs;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod threads;

use std::time::Duration;

use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

pub use self::{retry::RetryPolicy, stream::RunStream};
use crate::{
    Error,
    v1::{
        JsonEncoding, assistants_client::AssistantsClient, crons_client::CronsClient, graphs_client::GraphsClient,
        runs_client::RunsClient, store_client::StoreClient, threads_client::ThreadsClient,
    },
};

/// A connection to a server. Cheap to clone: clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    retry: RetryPolicy,
    max_message_bytes: usize,
}

/// How a client connects and keeps its connection.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Timeout of connecting. Default: 10 s.
    pub connect_timeout: Duration,
    /// Interval of keepalive pings on a silent connection. Default: 30 s.
    pub keep_alive_interval: Duration,
    /// Timeout of a keepalive ping, after which the connection is closed. Default: 20 s.
    pub keep_alive_timeout: Duration,
    /// Maximum size of a message in bytes; larger parts of a stream arrive without their data. Default: 64 MiB.
    pub max_message_bytes: usize,
    /// Retries.
    pub retry: RetryPolicy,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            max_message_bytes: 64 << 20,
            retry: RetryPolicy::default(),
        }
    }
}

impl Client {
    /// Connects to `host:port` or `http://host:port`. Fails if the server cannot be reached.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_with(address, ClientOptions::default()).await
    }

    /// Connects with options.
    pub async fn connect_with(address: impl AsRef<str>, options: ClientOptions) -> Result<Self, Error> {
        let channel = endpoint(address.as_ref(), &options)?.connect().await?;
        Ok(Self::from_channel(channel, options))
    }

    /// Connects at the first call, which is retried according to the retry policy.
    pub fn connect_lazy(address: impl AsRef<str>, options: ClientOptions) -> Result<Self, Error> {
        let channel = endpoint(address.as_ref(), &options)?.connect_lazy();
        Ok(Self::from_channel(channel, options))
    }

    /// Uses an existing channel, for example with TLS or over a Unix socket. Only the retry policy and the maximum message size of the options apply.
    pub fn from_channel(channel: Channel, options: ClientOptions) -> Self {
        Self { channel, retry: options.retry, max_message_bytes: options.max_message_bytes }
    }

    fn runs(&self) -> RunsClient<Channel> {
        RunsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn threads(&self) -> ThreadsClient<Channel> {
        ThreadsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn assistants(&self) -> AssistantsClient<Channel> {
        AssistantsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn graphs(&self) -> GraphsClient<Channel> {
        GraphsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn crons(&self) -> CronsClient<Channel> {
        CronsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn store(&self) -> StoreClient<Channel> {
        StoreClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    /// What a stream's request says of the largest part, where it leaves that open.
    fn max_part_bytes(&self, asked: u32) -> u32 {
        if asked == 0 { u32::try_from(self.max_message_bytes).unwrap_or(u32::MAX) } else { asked }
    }
}

fn endpoint(address: &str, options: &ClientOptions) -> Result<Endpoint, Error> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| {
        Error::new(Code::InvalidArgument, format!("not an address of a server, `{address}`: {error}"))
    })?;
    if endpoint.uri().scheme_str() != Some("http") {
        let message = format!(
            "`{address}`: connect takes host:port or http://; for TLS make a channel and use Client::from_channel"
        );
        return Err(Error::new(Code::InvalidArgument, message));
    }
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true))
}

/// The encoding to ask for, where the caller leaves it open: text.
fn encoding(asked: i32) -> i32 {
    if asked == JsonEncoding::Unspecified as i32 { JsonEncoding::Text.into() } else { asked }
}

/// A field that every answer has.
fn present<T>(field: Option<T>, name: &str) -> Result<T, Error> {
    field.ok_or_else(|| Error::new(Code::Internal, format!("the server's answer lacks its `{name}`")))
}

/// Makes an id where the caller leaves it open.
fn or_new_id(id: &mut String) {
    if id.is_empty() {
        *id = uuid::Uuid::now_v7().to_string();
    }
}

/// Calls an RPC that is safe to repeat: `repeated!(self, runs.get_run(request))`.
macro_rules! repeated {
    ($client:expr, $service:ident.$rpc:ident($request:expr)) => {{
        let request = $request;
        let call = || {
            let (mut service, request) = ($client.$service(), request.clone());
            async move { service.$rpc(request).await }
        };
        $client.retry.call(call).await.map(tonic::Response::into_inner)
    }};
}

/// Calls an RPC that is not.
macro_rules! once {
    ($client:expr, $service:ident.$rpc:ident($request:expr)) => {
        $client.$service().$rpc($request).await.map(tonic::Response::into_inner).map_err(crate::Error::from)
    };
}

use {once, repeated};
