//! API keys, on every store.

use std::time::Duration;

use crate::{ApiKey, Error, TenantId, What};
use runloom_engine::Clock;

use super::Fixture;

fn key(f: &Fixture, id: &str, tenant: &TenantId) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        hash: [7; 32],
        tenant: tenant.clone(),
        name: format!("the key {id}"),
        scopes: vec!["runs".to_owned(), "threads:read".to_owned()],
        created_at: f.clock.now(),
        expires_at: Some(f.clock.now() + Duration::from_secs(60)),
    }
}

pub async fn a_key_is_stored_found_and_deleted(f: Fixture) {
    let (acme, other) = (TenantId::new("acme").unwrap(), TenantId::default());
    let one = key(&f, "one", &acme);
    let two = ApiKey { expires_at: None, scopes: Vec::new(), ..key(&f, "two", &other) };
    f.store.put_key(one.clone()).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    f.store.put_key(two.clone()).await.unwrap();
    // An id is taken for all tenants.
    let taken = f.store.put_key(ApiKey { tenant: other.clone(), ..one.clone() }).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { what: What::ApiKey, .. }), "{taken}");
    assert_eq!(f.store.get_key("one").await.unwrap(), Some(one.clone()));
    assert_eq!(f.store.get_key("three").await.unwrap(), None);
    assert_eq!(f.store.list_keys(None).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(f.store.list_keys(Some(&acme)).await.unwrap(), [one]);
    // Of another tenant it does not exist.
    assert!(!f.store.delete_key(Some(&acme), "two").await.unwrap());
    assert!(f.store.delete_key(Some(&other), "two").await.unwrap());
    assert!(f.store.delete_key(None, "one").await.unwrap());
    assert!(!f.store.delete_key(None, "one").await.unwrap());
    assert!(f.store.list_keys(None).await.unwrap().is_empty());
}
