//! Pages of other origins: who may use the face, and what browsers are told of it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Fail, empty};
use crate::{Cors, Options};

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("content-location, location, x-pagination-total, x-pagination-next");

/// Whether a request may have come from where it says: from no page at all, from one of this server's own, or from one of
/// an origin that is allowed.
pub(crate) fn is_allowed(options: &Options, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    // For pages of this machine alone: any name can be made to stand for it, so a page is not ours for having come by one.
    let may_be_own = options.cors != Cors::Loopback;
    may_be_own && is_own(origin, headers) || options.cors.allows_header(origin)
}

fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let of_origin = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    host.is_some() && host == of_origin
}

/// Answers what browsers ask before a request, says who may read the answer, and refuses what a page that may not use
/// the face asks to be done.
pub(crate) async fn guard(State(options): State<Arc<Options>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let allowed = is_allowed(&options, request.headers());
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let mut response = if is_preflight {
        if allowed { (StatusCode::OK, "OK").into_response() } else { empty(StatusCode::FORBIDDEN) }
    } else if !allowed && !is_harmless {
        let detail = "pages of this origin may not use this server; allow it in the server's options";
        Fail::new(StatusCode::FORBIDDEN, detail).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if is_preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            if let Some(asked) = asked {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
            }
        }
    }
    response
}
