//! Who calls: every operation is a [`Session`]'s, and a session sees its tenant's objects only.

use std::{fmt, net::IpAddr, sync::Arc};

use runloom_engine::ThreadId;
use runloom_store::{Store, TenantId};
use tokio_util::sync::CancellationToken;

use crate::{Core, core::Inner};

/// A thread among those of all tenants.
pub(crate) type ThreadKey = (TenantId, ThreadId);

/// Who calls. [`Caller::default`] is that of a server without authentication: the default tenant, anonymous.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whose objects the caller sees. What belongs to another tenant is answered as if it did not exist.
    pub tenant: TenantId,
    /// The name under which the caller was authenticated; none for an anonymous caller.
    pub principal: Option<Arc<str>>,
    /// What the caller may do; none for everything.
    pub scopes: Option<Arc<[Arc<str>]>>,
    /// The address the call came from.
    pub peer: Option<IpAddr>,
}

impl Caller {
    /// The server itself, at work for a tenant.
    pub(crate) fn server(tenant: &TenantId) -> Self {
        Self { tenant: tenant.clone(), ..Self::default() }
    }
}

/// The operations, for one caller. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
    caller: Caller,
}

impl Session {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The core that the session is one of.
    pub fn core(&self) -> Core {
        Core { inner: self.inner.clone() }
    }

    /// Resolves when the core begins to drain.
    pub fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.caller.tenant
    }

    /// A thread of the tenant, among those of all tenants.
    pub(crate) fn key(&self, thread: ThreadId) -> ThreadKey {
        (self.caller.tenant.clone(), thread)
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Core {
    /// The operations, for a caller.
    pub fn session(&self, caller: Caller) -> Session {
        Session { inner: self.inner.clone(), caller }
    }

    /// The operations, for the server itself at work for a tenant.
    pub(crate) fn of_tenant(&self, tenant: &TenantId) -> Session {
        self.session(Caller::server(tenant))
    }
}
