//! Authentication of each call: the caller goes into the request's extensions, or the call is refused.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use runloom_auth::{Authenticator, Call};
use runloom_core::Core;
use tonic::{body::Body, codegen::Service};

use super::API;
use crate::{connection::Connection, status::status};

/// Services whose RPCs need no scope: whether the server works, and what it offers.
const PUBLIC: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// All services behind authentication, if there is any.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    core: Core,
    auth: Option<Authenticator>,
}

impl<S> Guarded<S> {
    pub fn new(inner: S, core: Core, auth: Option<Authenticator>) -> Self {
        Self { inner, core, auth }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(auth) = self.auth.clone() else { return Either::Left(self.inner.call(request)) };
        let path = request.uri().path().to_owned();
        if PUBLIC.iter().any(|public| path.starts_with(public)) {
            return Either::Left(self.inner.call(request));
        }
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let (mut inner, core) = (std::mem::replace(&mut self.inner, next), self.core.clone());
        Either::Right(Box::pin(async move {
            // A path that is no RPC of the contract needs what nobody but an administrator has.
            let scope = runloom::scope_of(&path).unwrap_or(runloom_core::scopes::ADMIN);
            let connection = request.extensions().get::<Connection>().cloned();
            let call =
                Call { api: API, call: &path, scope, headers: request.headers(), connection: connection.as_ref() };
            match auth.admit(&core, call).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(error) => Ok(status(error).into_http()),
            }
        }))
    }
}
