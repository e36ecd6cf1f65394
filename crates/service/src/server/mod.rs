//! The server: what it is made of, how it serves, how it goes down.

mod auth;
mod builder;
mod error;
mod health;
mod in_process;
pub(crate) mod layer;
mod options;
mod web;

use std::{future::Future, net::SocketAddr, sync::Arc};

use runloom::{
    FILE_DESCRIPTOR_SET,
    v1::{
        assistants_server::AssistantsServer, crons_server::CronsServer, graphs_server::GraphsServer,
        keys_server::KeysServer, runs_server::RunsServer, store_server::StoreServer, threads_server::ThreadsServer,
        workers_server::WorkersServer,
    },
};
use runloom_core::Core;
use runloom_net::{BodyDeadline, BodyDeadlineLayer, ListenError};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use tower::Layer;

use self::{
    auth::Guarded,
    health::Health,
    layer::{Edge, EdgeLayer},
    web::{Web, web},
};
pub use self::{builder::Builder, error::Error, options::Options};
use crate::{
    routes::{Limits, Streams},
    services::Api,
    shared::Sharing,
};

/// The name of this API in metrics and logs of connections.
const API: &str = "grpc";
/// The stream of a worker, which lasts as long as the worker.
const ATTACH: &str = "/runloom.v1.Workers/Attach";

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
        let api = Api {
            core: core.clone(),
            caller: options.caller.clone(),
            sharing: Arc::new(Sharing::default()),
            patience: options.progress_interval,
        };
        let health = Health::new().await;
        health.follow(core.clone());
        Self { core, api: Arc::new(api), options, health }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Serves until `shutdown` resolves, and then drains: health is NOT_SERVING, no run begins, running ones have
    /// [`drain_timeout`](runloom_core::CoreOptions::drain_timeout) to end, and streams end with a cursor to join again from.
    /// Calls are answered until then. When this resolves, connections are closed and everything is on disk.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let drained = async {
            shutdown.await;
            self.drain().await;
        };
        let server = runloom_net::Server::new(API, self.options.connections.clone());
        server.serve(listener, self.service(), drained).await;
    }

    /// Serves in the background.
    pub fn spawn(&self, listener: TcpListener) -> Result<Handle, Error> {
        let address = listener
            .local_addr()
            .map_err(|source| ListenError::Other { address: "the listener's address".to_owned(), source })?;
        let stop = CancellationToken::new();
        let (server, stopped) = (self.clone(), stop.clone().cancelled_owned());
        let task = tokio::spawn(async move { server.serve(listener, stopped).await });
        Ok(Handle { address, stop, task })
    }

    /// Drains without a listener: for a server in the same process. [`serve`](Self::serve) calls it.
    pub async fn drain(&self) {
        self.health.drain().await;
        self.core.drain().await;
        self.health.clone().close().await;
    }

    /// All services, with what surrounds each call.
    fn service(&self) -> BodyDeadline<Web<Edge<Guarded<Routes>>>> {
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
            .add_service(limited!(KeysServer))
            .add_service(limited!(WorkersServer))
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
        let guarded = Guarded::new(routes.routes().prepare(), self.core.clone(), self.options.auth.clone());
        let deadline = BodyDeadlineLayer::new(API, self.options.body_timeout)
            .error(layer::body_timeout)
            // Streams in both directions.
            .except(|uri| uri.path() == ATTACH || uri.path().starts_with("/grpc.reflection."));
        deadline.layer(web(EdgeLayer.layer(guarded), &self.options.cors))
    }
}

/// A server that serves in the background. Dropping it leaves the server as it is.
pub struct Handle {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains, and resolves when all is on disk.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.map_err(|error| Error::Stopped(error.to_string()))
    }
}
