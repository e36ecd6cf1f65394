//! The server: what it is made of, how it serves, how it goes down.

mod builder;
pub(crate) mod conn;
mod error;
mod health;
mod in_process;
mod layer;
mod listen;
mod options;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use runloom::{
    FILE_DESCRIPTOR_SET,
    v1::{
        assistants_server::AssistantsServer, crons_server::CronsServer, graphs_server::GraphsServer,
        runs_server::RunsServer, store_server::StoreServer, threads_server::ThreadsServer,
    },
};
use runloom_core::Core;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes, transport};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

pub use self::{builder::Builder, error::Error, listen::listen, options::Options};
use self::{health::Health, layer::EdgeLayer};
use crate::{
    routes::{Limits, Streams},
    services::Api,
    shared::Sharing,
};

/// How long a connection that is asked to close has for it at least, before it is cut.
const CUT_AFTER: Duration = Duration::from_secs(5);
/// Streams that are no business of limits: answers to short calls get through when all others are taken.
const SPARE_STREAMS: u32 = 1024;

/// A server that has started: its store answers, its graphs are loaded, and runs that were under way go on. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    core: Core,
    api: Arc<Api>,
    options: Options,
    health: Health,
}

impl Server {
    /// What a server is made of.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A server over a core that runs already.
    pub async fn over(core: Core, options: Options) -> Self {
        let api =
            Api { core: core.clone(), sharing: Arc::new(Sharing::default()), patience: options.progress_interval };
        let health = Health::new().await;
        health.follow(core.clone());
        Self { core, api: Arc::new(api), options, health }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Serves until `shutdown` resolves, and then drains: health says so, no run begins any more, running ones get their time
    /// (who asks for them is answered until then), streams are told where to join again, no connection is accepted any more,
    /// and all is on disk when this resolves.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let incoming = listen::incoming(listener, self.options.clone(), cut.clone());
        let serving = self.router().serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended.map_err(Error::Serve),
            () = shutdown => {}
        }
        self.health.drain().await;
        let drain = async {
            self.core.drain().await;
            // All streams of runs have been told. Those who watch the health have too.
            stop.cancel();
            self.health.clone().close().await;
        };
        let mut drain = std::pin::pin!(drain);
        let ended = tokio::select! {
            () = &mut drain => None,
            ended = &mut serving => Some(ended),
        };
        let ended = match ended {
            Some(ended) => {
                drain.await;
                ended
            }
            None => match tokio::time::timeout(self.options.close_timeout, &mut serving).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("cutting connections whose clients do not read");
                    cut.cancel();
                    serving.await
                }
            },
        };
        ended.map_err(Error::Serve)
    }

    /// Serves in the background.
    pub fn spawn(&self, listener: TcpListener) -> Result<Handle, Error> {
        let address = listener.local_addr().map_err(|source| Error::Listen { address: String::new(), source })?;
        let stop = CancellationToken::new();
        let (server, stopped) = (self.clone(), stop.clone().cancelled_owned());
        let task = tokio::spawn(async move { server.serve(listener, stopped).await });
        Ok(Handle { address, stop, task })
    }

    /// Drains without a listener: for a server in the same process. [`serve`](Self::serve) does it by itself.
    pub async fn drain(&self) {
        self.health.drain().await;
        self.core.drain().await;
        self.health.clone().close().await;
    }

    fn router(&self) -> transport::server::Router<tower::layer::util::Stack<EdgeLayer, tower::layer::util::Identity>> {
        let Options { max_request_bytes, gzip, .. } = self.options;
        let limits = Limits { max_request_bytes, gzip };
        macro_rules! limited {
            ($server:ident) => {{
                let server = $server::from_arc(self.api.clone()).max_decoding_message_size(max_request_bytes);
                if gzip {
                    server.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip)
                } else {
                    server
                }
            }};
        }
        let mut routes = Routes::builder();
        routes
            .add_service(Streams::new(limited!(ThreadsServer), self.api.clone(), limits))
            .add_service(Streams::new(limited!(RunsServer), self.api.clone(), limits))
            .add_service(limited!(AssistantsServer))
            .add_service(limited!(GraphsServer))
            .add_service(limited!(StoreServer))
            .add_service(limited!(CronsServer))
            .add_service(HealthServer::new(HealthService::from_health_reporter(self.health.reporter())));
        if self.options.reflection {
            let describe = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    // The details of errors, so that a terminal can show them.
                    .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            };
            // The descriptors are this program's own; tests look at what they answer.
            match (describe().build_v1(), describe().build_v1alpha()) {
                (Ok(v1), Ok(v1alpha)) => {
                    routes.add_service(v1).add_service(v1alpha);
                }
                (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no reflection"),
            }
        }
        let mut server = transport::Server::builder()
            .max_concurrent_streams(self.options.max_streams_per_connection.saturating_add(SPARE_STREAMS))
            .http2_keepalive_interval(self.options.keepalive_interval)
            .http2_keepalive_timeout(Some(self.options.keepalive_timeout))
            .layer(EdgeLayer);
        if let Some(age) = self.options.max_connection_age {
            server = server.max_connection_age(age);
        }
        server.add_routes(routes.routes())
    }
}

/// A server that serves in the background. Dropping it leaves the server as it is.
pub struct Handle {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains, and resolves when all is on disk.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.map_err(|error| Error::Stopped(error.to_string()))?
    }
}
