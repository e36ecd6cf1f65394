//! A typed client: a method for every RPC, and streams that rejoin by themselves.
//!
//! Calls that are safe to repeat are retried if the server is temporarily unavailable; see [`RetryPolicy`]. The client requests JSON as text, the exact
//! encoding. It generates a request id for every new run, and an id for every new thread, assistant and cron, so that creating them is safe to repeat.

mod assistants;
mod connect;
mod crons;
mod graphs;
mod keys;
mod requests;
mod retry;
mod runs;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod threads;
mod workers;

use tonic::{Code, service::interceptor::InterceptedService, transport::Channel};

pub use self::{
    connect::{ClientOptions, ClientTls, Credentials},
    retry::RetryPolicy,
    stream::RunStream,
};
use crate::{
    Error,
    v1::{
        JsonEncoding, assistants_client::AssistantsClient, crons_client::CronsClient, graphs_client::GraphsClient,
        keys_client::KeysClient, runs_client::RunsClient, store_client::StoreClient, threads_client::ThreadsClient,
        workers_client::WorkersClient,
    },
};

/// A channel whose calls have the credentials.
type Transport = InterceptedService<Channel, Credentials>;

/// A connection to a server. Cheap to clone: clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Transport,
    retry: RetryPolicy,
    max_message_bytes: usize,
}

impl Client {
    /// Connects to `host:port`, `http://host:port` or `https://host:port`. Fails if the server cannot be reached.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_with(address, ClientOptions::default()).await
    }

    /// Connects with options.
    pub async fn connect_with(address: impl AsRef<str>, options: ClientOptions) -> Result<Self, Error> {
        let channel = options.endpoint(address.as_ref())?.connect().await?;
        Self::with_credentials(channel, options)
    }

    /// Connects at the first call, which is retried according to the retry policy.
    pub fn connect_lazy(address: impl AsRef<str>, options: ClientOptions) -> Result<Self, Error> {
        let channel = options.endpoint(address.as_ref())?.connect_lazy();
        Self::with_credentials(channel, options)
    }

    /// Uses an existing channel, for example over a Unix socket. Only the API key, the retry policy and the maximum message size of the options
    /// apply; a key that a header cannot have is not sent.
    pub fn from_channel(channel: Channel, options: ClientOptions) -> Self {
        let credentials = options.credentials().unwrap_or_default();
        Self::new(channel, credentials, options)
    }

    fn with_credentials(channel: Channel, options: ClientOptions) -> Result<Self, Error> {
        Ok(Self::new(channel, options.credentials()?, options))
    }

    fn new(channel: Channel, credentials: Credentials, options: ClientOptions) -> Self {
        let channel = InterceptedService::new(channel, credentials);
        Self { channel, retry: options.retry, max_message_bytes: options.max_message_bytes }
    }

    fn runs(&self) -> RunsClient<Transport> {
        RunsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn threads(&self) -> ThreadsClient<Transport> {
        ThreadsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn assistants(&self) -> AssistantsClient<Transport> {
        AssistantsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn graphs(&self) -> GraphsClient<Transport> {
        GraphsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn keys(&self) -> KeysClient<Transport> {
        KeysClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn crons(&self) -> CronsClient<Transport> {
        CronsClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn store(&self) -> StoreClient<Transport> {
        StoreClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    fn workers(&self) -> WorkersClient<Transport> {
        WorkersClient::new(self.channel.clone()).max_decoding_message_size(self.max_message_bytes)
    }

    /// What a stream's request says of the largest part, where it leaves that open.
    fn max_part_bytes(&self, asked: u32) -> u32 {
        if asked == 0 { u32::try_from(self.max_message_bytes).unwrap_or(u32::MAX) } else { asked }
    }
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
