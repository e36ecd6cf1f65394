//! Crons in memory.

use async_trait::async_trait;
use runloom_engine::ThreadId;

use crate::{MemoryStore, Tables};
use runloom_store::{
    Cron, CronFilter, CronId, CronSort, CronUpdate, Crons, Direction, Error, NewCron, Page, PageRequest, Result,
    TenantId, Topic, What, page::paginate,
};

pub(crate) struct Row {
    pub ordinal: i64,
    pub cron: Cron,
}

impl Tables {
    pub(crate) fn cron_mut(&mut self, tenant: &TenantId, id: CronId) -> Result<&mut Cron> {
        self.crons
            .get_mut(&(tenant.clone(), id))
            .map(|row| &mut row.cron)
            .ok_or_else(|| Error::not_found(What::Cron, id))
    }

    pub(crate) fn forget_crons_of(&mut self, tenant: &TenantId, thread: ThreadId) {
        self.crons.retain(|(of, _), row| of != tenant || row.cron.thread != Some(thread));
    }
}

#[async_trait]
impl Crons for MemoryStore {
    async fn create_cron(&self, tenant: &TenantId, new: NewCron) -> Result<Cron> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| CronId(self.uuid()));
        self.write(|tables| {
            if tables.crons.contains_key(&(tenant.clone(), id)) {
                return Err(Error::exists(What::Cron, id));
            }
            if let Some(thread) = new.thread {
                tables.thread(tenant, thread)?;
            }
            let ordinal = tables.next();
            let cron = Cron::new(tenant.clone(), id, new, now);
            tables.crons.insert((tenant.clone(), id), Row { ordinal, cron: cron.clone() });
            tables.hints.push(Topic::Schedules);
            Ok(cron)
        })
    }

    async fn get_cron(&self, tenant: &TenantId, id: CronId) -> Result<Cron> {
        let found = self.read(|tables| tables.crons.get(&(tenant.clone(), id)).map(|row| row.cron.clone()));
        found.ok_or_else(|| Error::not_found(What::Cron, id))
    }

    async fn update_cron(&self, tenant: &TenantId, id: CronId, update: CronUpdate) -> Result<Cron> {
        let now = self.now();
        self.write(|tables| {
            tables.hints.push(Topic::Schedules);
            let cron = tables.cron_mut(tenant, id)?;
            cron.apply(update, now);
            Ok(cron.clone())
        })
    }

    async fn delete_cron(&self, tenant: &TenantId, id: CronId) -> Result<()> {
        let key = (tenant.clone(), id);
        self.write(|tables| tables.crons.remove(&key).map(drop).ok_or_else(|| Error::not_found(What::Cron, id)))
    }

    async fn list_crons(
        &self,
        tenant: &TenantId,
        filter: CronFilter,
        (sort, direction): (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        let rows = self.read(|tables| {
            let rows = tables.crons.values().filter(|row| row.cron.tenant == *tenant && filter.matches(&row.cron));
            rows.map(|row| (sort.position(&row.cron, row.ordinal), row.cron.clone())).collect()
        });
        paginate(rows, sort.tag(direction), direction, &page)
    }

    async fn count_crons(&self, tenant: &TenantId, filter: CronFilter) -> Result<u64> {
        Ok(self.read(|tables| {
            tables.crons.values().filter(|row| row.cron.tenant == *tenant && filter.matches(&row.cron)).count() as u64
        }))
    }
}
