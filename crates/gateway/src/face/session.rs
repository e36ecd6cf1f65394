//! Who calls: the only place of this API where a caller comes from.

use std::{convert::Infallible, sync::Arc};

use axum::extract::FromRequestParts;
use http::request::Parts;
use runloom_core::{Caller, Core, Session};
use runloom_net::Connection;

use crate::Options;

/// What all calls share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub core: Core,
    pub options: Arc<Options>,
}

/// What an endpoint has at hand: the operations, for the caller of one call.
#[derive(Clone)]
pub(crate) struct Api {
    pub core: Session,
    pub options: Arc<Options>,
    /// Where the call came in: its streams end before the connection does.
    pub connection: Connection,
}

impl FromRequestParts<Shared> for Api {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Infallible> {
        Ok(Self {
            core: shared.core.session(caller(parts, &shared.options)),
            options: shared.options.clone(),
            connection: parts.extensions.get::<Connection>().cloned().unwrap_or_default(),
        })
    }
}

/// The caller of a request: the one that a layer around the router has put into its extensions, or that of the options.
fn caller(parts: &Parts, options: &Options) -> Caller {
    let known = parts.extensions.get::<Caller>().cloned();
    let peer = parts.extensions.get::<Connection>().and_then(Connection::peer).map(|peer| peer.ip());
    let caller = known.unwrap_or_else(|| options.caller.clone());
    Caller { peer: caller.peer.or(peer), ..caller }
}
