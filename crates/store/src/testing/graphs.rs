//! Registered graphs, on every store.

use std::time::Duration;

use crate::{Error, RunStatus, TenantId, What};
use runloom_engine::Clock;

use super::Fixture;

pub async fn the_last_registered_revision_is_the_latest(f: Fixture) {
    let one = f.store.put_graph(&TenantId::default(), "b", "r1", "one").await.unwrap();
    assert_eq!((&*one.name, &*one.revision, &*one.text, one.created_at), ("b", "r1", "one", f.clock.now()));
    f.clock.advance(Duration::from_secs(1));
    let two = f.store.put_graph(&TenantId::default(), "b", "r2", "two").await.unwrap();
    let other = f.store.put_graph(&TenantId::default(), "a", "r1", "other").await.unwrap();
    assert_eq!(f.store.get_graph(&TenantId::default(), "b", None).await.unwrap(), two);
    assert_eq!(f.store.get_graph(&TenantId::default(), "b", Some("r1")).await.unwrap(), one);
    assert_eq!(f.store.list_graphs(&TenantId::default()).await.unwrap(), [other.clone(), two]);
    // The same revision again is the latest again, with what its text says now.
    let again = f.store.put_graph(&TenantId::default(), "b", "r1", "one, told better").await.unwrap();
    assert_eq!((&*again.text, again.created_at), ("one, told better", one.created_at));
    assert_eq!(f.store.get_graph(&TenantId::default(), "b", None).await.unwrap().text, "one, told better");
    let again = f.store.put_graph(&TenantId::default(), "b", "r1", "one").await.unwrap();
    assert_eq!(again, one, "a revision is what it is");
    assert_eq!(f.store.get_graph(&TenantId::default(), "b", None).await.unwrap(), one);
    assert_eq!(f.store.list_graphs(&TenantId::default()).await.unwrap(), [other, one]);
    for (name, revision) in [("b", Some("r3")), ("c", None)] {
        let missing = f.store.get_graph(&TenantId::default(), name, revision).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { what: What::Graph, .. }), "{missing}");
    }
}

// G29
pub async fn a_graph_in_use_is_not_deleted(f: Fixture) {
    f.store.put_graph(&TenantId::default(), "graph", "r1", "text").await.unwrap();
    f.store.put_graph(&TenantId::default(), "graph", "r2", "text").await.unwrap();
    let run = f.run(f.thread().await).await;
    let refused = f.store.delete_graph(&TenantId::default(), "graph").await.unwrap_err();
    assert!(matches!(refused, Error::InUse { what: What::Graph, .. }), "{refused}");
    assert!(refused.to_string().contains(&run.id.to_string()), "{refused}");
    f.finish(run.current(), RunStatus::Cancelled).await;
    f.store.delete_graph(&TenantId::default(), "graph").await.unwrap();
    assert!(f.store.get_graph(&TenantId::default(), "graph", Some("r1")).await.is_err());
    assert!(matches!(f.store.delete_graph(&TenantId::default(), "graph").await, Err(Error::NotFound { .. })));
}
