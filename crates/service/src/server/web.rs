//! gRPC-Web: the calls of pages in a browser, over HTTP/1.1 or HTTP/2.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, Ready, ready};
use http::{HeaderName, Method, StatusCode, header::ORIGIN};
use runloom_net::Cors;
use tonic::{body::Body, codegen::Service};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::Layer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);
/// What a page may read beside the body. The trailers of a call are in the body.
const EXPOSED: [&str; 4] = ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding"];

/// The services with gRPC-Web and CORS in front.
pub(crate) type Web<S> = OriginCheck<tower_http::cors::Cors<GrpcWebService<S>>>;

/// Puts gRPC-Web and CORS in front of the services.
pub(crate) fn web<S>(inner: S, cors: &Cors) -> Web<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    let allowed = cors.clone();
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| allowed.allows_header(origin)))
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE);
    OriginCheck { inner: layer.layer(GrpcWebLayer::new().layer(inner)), cors: cors.clone() }
}

/// Refuses calls of pages that may not use the API. A browser hides the answer from such a page, but sends the call; and it
/// hides nothing from a page whose host name was made to stand for this server.
#[derive(Clone)]
pub(crate) struct OriginCheck<S> {
    inner: S,
    cors: Cors,
}

impl<S, B> Service<http::Request<B>> for OriginCheck<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.headers().get(ORIGIN) {
            Some(origin) if !self.cors.allows_header(origin) => {
                let mut response = http::Response::new(Body::empty());
                *response.status_mut() = StatusCode::FORBIDDEN;
                Either::Right(ready(Ok(response)))
            }
            _ => Either::Left(self.inner.call(request)),
        }
    }
}
