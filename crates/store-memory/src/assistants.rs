//! Assistants in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runloom_engine::Object;

use crate::{MemoryStore, Tables};
use runloom_store::{
    Assistant, AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Assistants, Direction, Error, IfExists,
    NewAssistant, Page, PageRequest, Result, TenantId, What,
    assistants::{page_of_versions, position_of},
    page::paginate,
};

pub(crate) struct Row {
    ordinal: i64,
    /// The latest.
    assistant: Assistant,
    versions: BTreeMap<u32, Assistant>,
}

impl Tables {
    fn assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<&Row> {
        self.assistants.get(&(tenant.clone(), id)).ok_or_else(|| Error::not_found(What::Assistant, id))
    }

    fn assistant_mut(&mut self, tenant: &TenantId, id: AssistantId) -> Result<&mut Row> {
        self.assistants.get_mut(&(tenant.clone(), id)).ok_or_else(|| Error::not_found(What::Assistant, id))
    }
}

#[async_trait]
impl Assistants for MemoryStore {
    async fn create_assistant(&self, tenant: &TenantId, new: NewAssistant) -> Result<Assistant> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| AssistantId(self.uuid()));
        self.write(|tables| {
            if let Some(row) = tables.assistants.get(&(tenant.clone(), id)) {
                return match new.if_exists {
                    IfExists::Keep => Ok(row.assistant.clone()),
                    IfExists::Refuse => Err(Error::exists(What::Assistant, id)),
                };
            }
            let assistant = Assistant::new(tenant.clone(), id, new, now);
            let ordinal = tables.next();
            let versions = BTreeMap::from([(1, assistant.clone())]);
            tables.assistants.insert((tenant.clone(), id), Row { ordinal, assistant: assistant.clone(), versions });
            Ok(assistant)
        })
    }

    async fn get_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<Assistant> {
        self.read(|tables| Ok(tables.assistant(tenant, id)?.assistant.clone()))
    }

    async fn update_assistant(&self, tenant: &TenantId, id: AssistantId, update: AssistantUpdate) -> Result<Assistant> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.assistant_mut(tenant, id)?;
            let highest = row.versions.last_key_value().map_or(0, |(version, _)| *version);
            row.assistant.apply(update, highest + 1, now);
            row.versions.insert(highest + 1, row.assistant.as_version());
            Ok(row.assistant.clone())
        })
    }

    async fn delete_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<()> {
        self.write(|tables| match tables.assistants.remove(&(tenant.clone(), id)) {
            Some(_) => Ok(()),
            None => Err(Error::not_found(What::Assistant, id)),
        })
    }

    async fn list_assistants(
        &self,
        tenant: &TenantId,
        filter: AssistantFilter,
        (sort, direction): (AssistantSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let is_meant = |a: &Assistant| a.tenant == *tenant && filter.matches(a);
        let rows = self.read(|tables| {
            let rows = tables.assistants.values().filter(|row| is_meant(&row.assistant));
            rows.map(|row| (position_of(&row.assistant, sort, row.ordinal), row.assistant.clone())).collect()
        });
        paginate(rows, sort.tag(direction), direction, &page)
    }

    async fn count_assistants(&self, tenant: &TenantId, filter: AssistantFilter) -> Result<u64> {
        let is_meant = |a: &Assistant| a.tenant == *tenant && filter.matches(a);
        Ok(self.read(|tables| tables.assistants.values().filter(|row| is_meant(&row.assistant)).count() as u64))
    }

    async fn list_versions(
        &self,
        tenant: &TenantId,
        id: AssistantId,
        metadata: Object,
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let versions =
            self.read(|tables| Ok::<_, Error>(tables.assistant(tenant, id)?.versions.values().cloned().collect()))?;
        page_of_versions(versions, &metadata, &page)
    }

    async fn set_latest(&self, tenant: &TenantId, id: AssistantId, version: u32) -> Result<Assistant> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.assistant_mut(tenant, id)?;
            let found = row.versions.get(&version).ok_or_else(|| Error::not_found(What::Version, version))?;
            row.assistant = row.assistant.at_version(found.clone(), now);
            Ok(row.assistant.clone())
        })
    }
}
