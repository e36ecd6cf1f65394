//! Assistants, on every store.

use std::time::Duration;

use crate::{
    Assistant, AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Direction, Error, IfExists, NewAssistant,
    PageRequest, TenantId, What,
};
use runloom_engine::{Clock, value};
use uuid::Uuid;

use super::{Fixture, object};

pub async fn an_assistant_has_versions(f: Fixture) {
    let new = NewAssistant {
        id: Some(AssistantId(Uuid::from_u128(1))),
        graph: "graph".into(),
        name: "Helper".into(),
        description: Some("helps".into()),
        config: object(value!({"recursion_limit": 5})),
        context: value!({"model": "m"}),
        metadata: object(value!({"a": 1, "b": 2})),
        ..Default::default()
    };
    let first = f.store.create_assistant(&TenantId::default(), new.clone()).await.unwrap();
    assert_eq!((first.version, first.created_at, first.updated_at), (1, f.clock.now(), f.clock.now()));
    assert_eq!((&first.config, &first.context, &first.metadata), (&new.config, &new.context, &new.metadata));
    assert_eq!((&first.description, &first.tenant), (&new.description, &TenantId::default()));
    assert_eq!(f.store.get_assistant(&TenantId::default(), first.id).await.unwrap(), first);
    let taken = f.store.create_assistant(&TenantId::default(), new.clone()).await;
    assert!(matches!(taken, Err(Error::AlreadyExists { what: What::Assistant, .. })));
    let kept = NewAssistant { if_exists: IfExists::Keep, name: "Other".into(), ..new };
    assert_eq!(f.store.create_assistant(&TenantId::default(), kept).await.unwrap(), first);

    f.clock.advance(Duration::from_secs(1));
    let update = AssistantUpdate {
        name: Some("Better".into()),
        description: Some(String::new()),
        context: Some(value!(null)),
        metadata: Some(object(value!({"a": null, "c": 3}))),
        ..Default::default()
    };
    let second = f.store.update_assistant(&TenantId::default(), first.id, update).await.unwrap();
    assert_eq!((second.version, &*second.name, &second.description), (2, "Better", &None));
    assert_eq!((&second.context, &second.config), (&value!(null), &first.config));
    assert_eq!(second.metadata, object(value!({"b": 2, "c": 3})));
    assert_eq!((second.created_at, second.updated_at), (first.created_at, f.clock.now()));
    assert_eq!(f.store.get_assistant(&TenantId::default(), first.id).await.unwrap(), second);

    f.clock.advance(Duration::from_secs(1));
    let back = f.store.set_latest(&TenantId::default(), first.id, 1).await.unwrap();
    assert_eq!(back, Assistant { updated_at: f.clock.now(), ..first.clone() });
    assert_eq!(f.store.get_assistant(&TenantId::default(), first.id).await.unwrap(), back);
    let graph = AssistantUpdate { graph: Some("other".into()), ..Default::default() };
    let third = f.store.update_assistant(&TenantId::default(), first.id, graph).await.unwrap();
    assert_eq!(
        (third.version, &*third.name, &*third.graph),
        (3, "Helper", "other"),
        "after the highest, from the latest"
    );
    let none = f.store.set_latest(&TenantId::default(), first.id, 9).await;
    assert!(matches!(none, Err(Error::NotFound { what: What::Version, .. })), "{none:?}");

    let versions = async |metadata, page| {
        f.store.list_versions(&TenantId::default(), first.id, object(metadata), page).await.unwrap()
    };
    let all = versions(value!({}), PageRequest::default()).await.items;
    assert_eq!(all.iter().map(|v| v.version).collect::<Vec<_>>(), [3, 2, 1]);
    let as_version = |a: &Assistant| Assistant { created_at: a.updated_at, ..a.clone() };
    assert_eq!(all, [as_version(&third), as_version(&second), as_version(&first)]);
    assert_eq!(versions(value!({"c": 3}), PageRequest::default()).await.items, all[1..2]);
    let page = versions(value!({}), PageRequest::first(2)).await;
    let rest = versions(value!({}), PageRequest::after(2, page.next.unwrap())).await;
    assert_eq!((rest.items, rest.next), (all[2..].to_vec(), None));

    f.store.delete_assistant(&TenantId::default(), first.id).await.unwrap();
    let gone = Error::NotFound { what: What::Assistant, id: first.id.to_string() };
    assert_eq!(f.store.get_assistant(&TenantId::default(), first.id).await.unwrap_err(), gone);
    assert_eq!(
        f.store.update_assistant(&TenantId::default(), first.id, AssistantUpdate::default()).await.unwrap_err(),
        gone
    );
    assert_eq!(
        f.store
            .list_versions(&TenantId::default(), first.id, Default::default(), Default::default())
            .await
            .unwrap_err(),
        gone
    );
    assert_eq!(f.store.delete_assistant(&TenantId::default(), first.id).await.unwrap_err(), gone);
}

pub async fn assistants_are_listed(f: Fixture) {
    let mut ids = Vec::new();
    for (i, name) in ["Delta", "alpha", "Beta", "beta", "Gamma"].into_iter().enumerate() {
        let new = NewAssistant {
            graph: if i % 2 == 0 { "g" } else { "h" }.into(),
            name: name.into(),
            metadata: object(value!({"i": i})),
            ..Default::default()
        };
        ids.push(f.store.create_assistant(&TenantId::default(), new).await.unwrap().id);
        f.clock.advance(Duration::from_secs(1));
    }
    f.store.update_assistant(&TenantId::default(), ids[1], AssistantUpdate::default()).await.unwrap();
    let list = async |filter: AssistantFilter, sort, page: PageRequest| {
        let count = f.store.count_assistants(&TenantId::default(), filter.clone()).await.unwrap();
        let page =
            f.store.list_assistants(&TenantId::default(), filter, (sort, Direction::Ascending), page).await.unwrap();
        let at = |a: &Assistant| ids.iter().position(|id| *id == a.id).unwrap();
        (page.items.iter().map(at).collect::<Vec<_>>(), count, page.next)
    };
    let all = AssistantFilter::default;
    let sorted = async |sort| list(all(), sort, PageRequest::default()).await.0;
    assert_eq!(sorted(AssistantSort::Created).await, [0, 1, 2, 3, 4]);
    assert_eq!(sorted(AssistantSort::Updated).await, [0, 2, 3, 4, 1]);
    assert_eq!(sorted(AssistantSort::Name).await, [2, 0, 4, 1, 3]);
    assert_eq!(sorted(AssistantSort::Graph).await, [0, 2, 4, 1, 3]);
    let which = async |filter| list(filter, AssistantSort::Created, PageRequest::default()).await.0;
    assert_eq!(which(AssistantFilter { graph: Some("h".into()), ..all() }).await, [1, 3]);
    assert_eq!(which(AssistantFilter { name: Some("BET".into()), ..all() }).await, [2, 3]);
    assert_eq!(which(AssistantFilter { metadata: object(value!({"i": 2})), ..all() }).await, [2]);
    let (first, count, next) = list(all(), AssistantSort::Name, PageRequest::first(3)).await;
    let (second, _, end) = list(all(), AssistantSort::Name, PageRequest::after(3, next.unwrap())).await;
    assert_eq!((first, second, count, end), (vec![2, 0, 4], vec![1, 3], 5, None));
}
