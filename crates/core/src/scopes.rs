//! Scopes: what a caller may do.
//!
//! A scope is `resource:action`: `runs:read`. A grant of `runs` or `runs:*` covers every scope of the resource, `admin` covers all.
//! `workers:attach` is granted for a queue: `workers:attach:orders`, or for all with `workers:attach`.

use crate::{Caller, Error, Reason, Result};

/// The grant that covers everything.
pub const ADMIN: &str = "admin";
/// The resources that scopes are of, with their actions.
const RESOURCES: &[(&str, &[&str])] = &[
    ("threads", &["read", "write"]),
    ("runs", &["read", "write"]),
    ("assistants", &["read", "write"]),
    ("graphs", &["read", "admin"]),
    ("store", &["read", "write"]),
    ("crons", &["read", "write"]),
    ("workers", &["read", "attach"]),
    ("metrics", &["read"]),
];

impl Caller {
    /// Whether a grant of the caller covers a scope. For a scope that is granted by qualifier (`workers:attach`), whether one does for some qualifier.
    pub fn may(&self, scope: &str) -> bool {
        let Some(grants) = &self.scopes else { return true };
        grants.iter().any(|grant| covers(grant, scope) || is_beginning(scope, grant))
    }

    /// The same for a qualifier: `may_for("workers:attach", "orders")`.
    pub fn may_for(&self, scope: &str, qualifier: &str) -> bool {
        let Some(grants) = &self.scopes else { return true };
        let scope = format!("{scope}:{qualifier}");
        grants.iter().any(|grant| covers(grant, &scope))
    }

    /// Fails with SCOPE_MISSING if the caller may not.
    pub fn check(&self, scope: &str) -> Result<()> {
        if self.may(scope) {
            return Ok(());
        }
        let who = self.principal.as_deref().unwrap_or("the caller");
        Err(Error::new(Reason::ScopeMissing, format!("{who} lacks the scope `{scope}`")).with("scope", scope))
    }
}

/// Whether a grant covers a scope: it is the scope, or the beginning of it at a colon.
fn covers(grant: &str, scope: &str) -> bool {
    let grant = grant.strip_suffix(":*").unwrap_or(grant);
    grant == ADMIN || is_beginning(grant, scope)
}

fn is_beginning(of: &str, scope: &str) -> bool {
    scope.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Checks a grant: an error says what is wrong with it.
pub fn check_grant(grant: &str) -> Result<(), String> {
    if grant == ADMIN {
        return Ok(());
    }
    let mut parts = grant.split(':');
    let resource = parts.next().unwrap_or_default();
    let Some((_, actions)) = RESOURCES.iter().find(|(known, _)| *known == resource) else {
        let known: Vec<&str> = RESOURCES.iter().map(|(known, _)| *known).collect();
        return Err(format!(
            "unknown scope `{grant}`; use admin, or one of {}, with an action: runs:read",
            known.join(", ")
        ));
    };
    match (parts.next(), parts.next(), parts.next()) {
        (None | Some("*"), None, _) => Ok(()),
        (Some(action), None, _) if actions.contains(&action) => Ok(()),
        (Some("attach"), Some(queue), None) if resource == "workers" && !queue.is_empty() => Ok(()),
        _ => Err(format!("unknown scope `{grant}`; the actions of `{resource}` are {}", actions.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(grants: &[&str]) -> Caller {
        Caller { scopes: Some(grants.iter().map(|grant| (*grant).into()).collect()), ..Caller::default() }
    }

    #[test]
    fn a_grant_covers_what_it_is_the_beginning_of() {
        assert!(Caller::default().may("runs:write"), "without authentication everything is allowed");
        for grants in [["runs"], ["runs:*"], ["runs:write"], ["admin"]] {
            assert!(caller(&grants).may("runs:write"), "{grants:?}");
        }
        for grants in [["runs:read"], ["run"], ["threads"], ["runs:writer"]] {
            assert!(!caller(&grants).may("runs:write"), "{grants:?}");
        }
        assert!(!caller(&[]).may("runs:read"));
        assert!(!caller(&["runs", "threads", "store:read"]).may("admin"));
    }

    #[test]
    fn workers_attach_to_their_queues() {
        let orders = caller(&["workers:attach:orders"]);
        assert!(orders.may("workers:attach") && orders.may_for("workers:attach", "orders"));
        assert!(!orders.may_for("workers:attach", "billing") && !orders.may("workers:read"));
        assert!(caller(&["workers"]).may_for("workers:attach", "billing"));
    }

    #[test]
    fn grants_are_checked() {
        for good in ["admin", "runs", "runs:*", "runs:read", "graphs:admin", "workers:attach:orders"] {
            assert_eq!(check_grant(good), Ok(()), "{good}");
        }
        for bad in ["", "run", "runs:readd", "runs:read:x", "*", "workers:attach:", "workers:attach:a:b"] {
            assert!(check_grant(bad).is_err(), "{bad}");
        }
    }
}
