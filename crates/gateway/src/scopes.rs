//! The scope that each route needs: one table, by the method and the path.

use crate::routes::Endpoint;

/// Routes that need no scope: whether the server works, and what its API is.
pub(crate) const PUBLIC: &[&str] = &["/", "/ok", "/info", "/openapi.json", "/docs"];

/// The scope of a route. `None`: it is public.
pub(crate) fn scope(endpoint: &Endpoint) -> Option<&'static str> {
    let (method, path) = (endpoint.method, endpoint.path);
    if PUBLIC.contains(&path) {
        return None;
    }
    // Searches and counts are reads with a body.
    let asks = ["/search", "/count", "/history", "/versions", "/state/checkpoint", "/namespaces", "/stream/events"];
    let reads = method == "get" || (method == "post" && asks.iter().any(|end| path.ends_with(end)));
    // What a WebSocket takes are commands.
    let reads = reads && endpoint.gives != crate::routes::Gives::Socket;
    let either = |read, write| if reads { read } else { write };
    Some(match path {
        "/metrics" => "metrics:read",
        _ if path.starts_with("/assistants") => either("assistants:read", "assistants:write"),
        _ if path.starts_with("/store") => either("store:read", "store:write"),
        _ if path.contains("/crons") => either("crons:read", "crons:write"),
        _ if path.contains("/runs") || path.ends_with("/commands") || path.starts_with("/ws/") => {
            either("runs:read", "runs:write")
        }
        _ if path.starts_with("/threads") && endpoint.gives == crate::routes::Gives::Socket => "runs:write",
        _ if path.starts_with("/threads") => either("threads:read", "threads:write"),
        // A route that is in no line above is an administrator's until it is.
        _ => "admin",
    })
}
