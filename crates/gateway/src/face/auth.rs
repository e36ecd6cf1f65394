//! Authentication of each request: the caller goes into the request's extensions, or the request is refused.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use runloom_auth::{Authenticator, Call};
use runloom_core::Core;
use runloom_net::Connection;

use super::Fail;

/// What a route needs of its caller.
#[derive(Clone)]
pub(crate) struct Needs {
    pub auth: Authenticator,
    pub core: Core,
    pub route: &'static str,
    pub scope: &'static str,
}

/// Admits a request, or refuses it: 401 without valid credentials, 403 without the scope.
pub(crate) async fn admit(State(needs): State<Needs>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let call = Call {
        api: "http",
        call: needs.route,
        scope: needs.scope,
        headers: request.headers(),
        connection: connection.as_ref(),
    };
    match needs.auth.admit(&needs.core, call).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            let mut response = Fail::from(error).into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}
