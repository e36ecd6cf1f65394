//! Crons and deliveries in memory.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};

use crate::{MemoryStore, Tables};
use runloom_store::{
    Cron, CronFilter, CronId, CronSort, CronUpdate, Crons, Deliveries, Delivery, Direction, Error, Firing, NewCron,
    Page, PageRequest, Result, Run, RunThread, What, page::paginate,
};

pub(crate) struct Row {
    ordinal: i64,
    cron: Cron,
}

impl Tables {
    fn cron_mut(&mut self, id: CronId) -> Result<&mut Cron> {
        self.crons.get_mut(&id).map(|row| &mut row.cron).ok_or_else(|| Error::not_found(What::Cron, id))
    }

    pub(crate) fn forget_crons_of(&mut self, thread: ThreadId) {
        self.crons.retain(|_, row| row.cron.thread != Some(thread));
    }
}

#[async_trait]
impl Crons for MemoryStore {
    async fn create_cron(&self, new: NewCron) -> Result<Cron> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| CronId(self.uuid()));
        self.write(|tables| {
            if tables.crons.contains_key(&id) {
                return Err(Error::exists(What::Cron, id));
            }
            if let Some(thread) = new.thread {
                tables.thread(thread)?;
            }
            let ordinal = tables.next();
            let cron = Cron::new(id, new, now);
            tables.crons.insert(id, Row { ordinal, cron: cron.clone() });
            Ok(cron)
        })
    }

    async fn get_cron(&self, id: CronId) -> Result<Cron> {
        let found = self.read(|tables| tables.crons.get(&id).map(|row| row.cron.clone()));
        found.ok_or_else(|| Error::not_found(What::Cron, id))
    }

    async fn update_cron(&self, id: CronId, update: CronUpdate) -> Result<Cron> {
        let now = self.now();
        self.write(|tables| {
            let cron = tables.cron_mut(id)?;
            cron.apply(update, now);
            Ok(cron.clone())
        })
    }

    async fn delete_cron(&self, id: CronId) -> Result<()> {
        self.write(|tables| tables.crons.remove(&id).map(drop).ok_or_else(|| Error::not_found(What::Cron, id)))
    }

    async fn list_crons(
        &self,
        filter: CronFilter,
        (sort, direction): (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        let rows = self.read(|tables| {
            let rows = tables.crons.values().filter(|row| filter.matches(&row.cron));
            rows.map(|row| (sort.position(&row.cron, row.ordinal), row.cron.clone())).collect()
        });
        paginate(rows, sort.tag(direction), direction, &page)
    }

    async fn count_crons(&self, filter: CronFilter) -> Result<u64> {
        Ok(self.read(|tables| tables.crons.values().filter(|row| filter.matches(&row.cron)).count() as u64))
    }

    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>> {
        let mut rows: Vec<(SystemTime, i64, Cron)> = self.read(|tables| {
            let enabled = tables.crons.values().filter(|row| row.cron.enabled);
            enabled.filter_map(|row| Some((row.cron.next_at?, row.ordinal, row.cron.clone()))).collect()
        });
        rows.sort_by_key(|(at, ordinal, _)| (*at, *ordinal));
        Ok(rows.into_iter().take(limit).map(|(_, _, cron)| cron).collect())
    }

    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>> {
        let now = self.now();
        let ids = (RunId(self.uuid()), ThreadId(self.uuid()));
        self.write(|tables| {
            let Some(row) = tables.crons.get(&firing.cron).filter(|row| row.cron.is_due(&firing)) else {
                return Ok(None);
            };
            let cron = row.cron.id;
            let made = match &firing.run {
                Err(why) => Err(why.clone()),
                Ok(new) => {
                    let thread = match &new.thread {
                        RunThread::Existing(id) => *id,
                        RunThread::Create(thread) => thread.id.unwrap_or(ids.1),
                    };
                    Ok(tables.create_run(new.id.unwrap_or(ids.0), thread, new.clone(), now)?.run)
                }
            };
            let noted = made.as_ref().map(|run| run.id).map_err(String::clone);
            tables.cron_mut(cron)?.fired(firing.next, noted, now);
            Ok(made.ok())
        })
    }
}

#[async_trait]
impl Deliveries for MemoryStore {
    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>> {
        let mut waiting: Vec<(RunId, SystemTime)> =
            self.read(|tables| tables.deliveries.values().map(|d| (d.run, d.next_at)).collect());
        waiting.sort_by_key(|(run, at)| (*at, *run));
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>> {
        Ok(self.read(|tables| tables.deliveries.get(&run).cloned()))
    }

    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()> {
        self.write(|tables| {
            if let Some(delivery) = tables.deliveries.get_mut(&run) {
                delivery.next_at = next;
                delivery.attempts += 1;
                delivery.error = Some(error);
            }
            Ok(())
        })
    }

    async fn delete_delivery(&self, run: RunId) -> Result<()> {
        self.write(|tables| {
            tables.deliveries.remove(&run);
            Ok(())
        })
    }
}
