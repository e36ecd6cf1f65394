//! Registered graphs in memory.

use async_trait::async_trait;

use crate::MemoryStore;
use runloom_store::{Error, Graphs, RegisteredGraph, Result, TenantId, Topic, What};

/// The revisions of each graph are in the order in which they became the latest.
#[async_trait]
impl Graphs for MemoryStore {
    async fn put_graph(&self, tenant: &TenantId, name: &str, revision: &str, text: &str) -> Result<RegisteredGraph> {
        let now = self.now();
        self.write(|tables| {
            tables.hints.push(Topic::Graphs);
            let revisions = tables.graphs.entry((tenant.clone(), name.to_owned())).or_default();
            let known = revisions.iter().position(|graph| graph.revision == revision);
            // The newest text stands: what it says beside the revision (a description) may have changed.
            let graph = RegisteredGraph {
                name: name.to_owned(),
                revision: revision.to_owned(),
                text: text.to_owned(),
                created_at: known.map_or(now, |at| revisions.remove(at).created_at),
            };
            revisions.push(graph.clone());
            Ok(graph)
        })
    }

    async fn get_graph(&self, tenant: &TenantId, name: &str, revision: Option<&str>) -> Result<RegisteredGraph> {
        let found = self.read(|tables| {
            let revisions = tables.graphs.get(&(tenant.clone(), name.to_owned()))?;
            match revision {
                None => revisions.last(),
                Some(revision) => revisions.iter().find(|graph| graph.revision == revision),
            }
            .cloned()
        });
        found.ok_or_else(|| Error::not_found(What::Graph, runloom_store::graphs::named(name, revision)))
    }

    async fn list_graphs(&self, tenant: &TenantId) -> Result<Vec<RegisteredGraph>> {
        Ok(self.read(|tables| {
            let of_tenant = tables.graphs.iter().filter(|((of, _), _)| of == tenant);
            of_tenant.filter_map(|(_, revisions)| revisions.last().cloned()).collect()
        }))
    }

    async fn delete_graph(&self, tenant: &TenantId, name: &str) -> Result<()> {
        let key = (tenant.clone(), name.to_owned());
        self.write(|tables| {
            if !tables.graphs.contains_key(&key) {
                return Err(Error::not_found(What::Graph, name));
            }
            let using = tables
                .runs
                .values()
                .filter(|row| row.run.tenant == *tenant && row.run.graph == name && !row.run.status.is_end());
            if let Some(first) = using.min_by_key(|row| row.ordinal) {
                return Err(Error::InUse { what: What::Graph, id: name.into(), by: format!("run {}", first.run.id) });
            }
            tables.graphs.remove(&key);
            tables.hints.push(Topic::Graphs);
            Ok(())
        })
    }
}
