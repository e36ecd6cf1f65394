//! Crons in SQLite, and the rows of deliveries.

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use rusqlite::{Connection, params, params_from_iter};

use crate::{
    SqliteStore,
    sql::{Columns, Sql, Where, object_text},
    threads,
    writer::Tx,
};
use runloom_store::{
    AssistantId, Cron, CronFilter, CronId, CronSort, CronUpdate, Crons, Delivery, Direction, Error, NewCron, Page,
    PageRequest, Result, TenantId, Topic, What, delta, page::paginate, time::nanos,
};

pub(crate) const COLUMNS: &str = "n, tenant, id, assistant, thread, schedule, timezone, end_at, enabled, keep, next_at, fired, \
    last_run, created, updated, error, metadata, request";

/// A cron with its place.
pub(crate) fn cron(row: &mut Columns<'_>) -> Result<(i64, Cron)> {
    let n = row.get()?;
    Ok((
        n,
        Cron {
            tenant: row.tenant()?,
            id: CronId(row.uuid()?),
            assistant: AssistantId(row.uuid()?),
            thread: row.maybe_uuid()?.map(ThreadId),
            schedule: row.get()?,
            timezone: row.get()?,
            end_at: row.maybe_time()?,
            enabled: row.get()?,
            keep: row.get()?,
            next_at: row.maybe_time()?,
            fired_at: row.maybe_time()?,
            last_run: row.maybe_uuid()?.map(RunId),
            created_at: row.time()?,
            updated_at: row.time()?,
            error: row.get()?,
            metadata: row.object()?,
            request: row.some_json()?,
        },
    ))
}

pub(crate) fn find(db: &Connection, tenant: &TenantId, id: CronId) -> Result<Option<(i64, Cron)>> {
    db.one(
        &format!("SELECT {COLUMNS} FROM crons WHERE tenant = ?1 AND id = ?2"),
        params![tenant.as_str(), id.0.into_bytes()],
        cron,
    )
}

fn get(db: &Connection, tenant: &TenantId, id: CronId) -> Result<(i64, Cron)> {
    find(db, tenant, id)?.ok_or_else(|| Error::not_found(What::Cron, id))
}

/// Writes a cron, at its place or at a new one.
pub(crate) fn write(tx: &Tx<'_>, n: Option<i64>, cron: &Cron) -> Result<()> {
    tx.hint([Topic::Schedules]);
    let marks: Vec<String> = (1..=18).map(|i| format!("?{i}")).collect();
    tx.run(
        &format!("INSERT OR REPLACE INTO crons ({COLUMNS}) VALUES ({})", marks.join(", ")),
        params![
            n,
            cron.tenant.as_str(),
            cron.id.0.into_bytes(),
            cron.assistant.0.into_bytes(),
            cron.thread.map(|id| id.0.into_bytes()),
            cron.schedule,
            cron.timezone,
            cron.end_at.map(nanos),
            cron.enabled,
            cron.keep,
            cron.next_at.map(nanos),
            cron.fired_at.map(nanos),
            cron.last_run.map(|id| id.0.into_bytes()),
            nanos(cron.created_at),
            nanos(cron.updated_at),
            cron.error,
            object_text(&cron.metadata)?,
            delta::encode(&cron.request)?,
        ],
    )?;
    Ok(())
}

/// Deletes the crons on a thread.
pub(crate) fn delete_of(tx: &Tx<'_>, thread: i64) -> Result<()> {
    tx.run("DELETE FROM crons WHERE (tenant, thread) = (SELECT tenant, id FROM threads WHERE n = ?1) AND thread IS NOT NULL",
        [thread],
    ).map(|_| ())
}

/// The crons that a filter holds for, with their places.
fn matching(db: &Connection, tenant: &TenantId, filter: &CronFilter) -> Result<Vec<(i64, Cron)>> {
    let mut conditions = Where::default();
    conditions.and("tenant = ?", tenant.to_string());
    if let Some(assistant) = filter.assistant {
        conditions.and("assistant = ?", assistant.0.as_bytes().to_vec());
    }
    if let Some(thread) = filter.thread {
        conditions.and("thread = ?", thread.0.as_bytes().to_vec());
    }
    let sql = format!("SELECT {COLUMNS} FROM crons {}", conditions.sql());
    let mut found = db.all(&sql, params_from_iter(&conditions.params), cron)?;
    found.retain(|(_, cron)| filter.matches(cron));
    Ok(found)
}

#[async_trait]
impl Crons for SqliteStore {
    async fn create_cron(&self, tenant: &TenantId, new: NewCron) -> Result<Cron> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| CronId(self.uuid()));
        let tenant = tenant.clone();
        self.write(move |tx| {
            if find(tx, &tenant, id)?.is_some() {
                return Err(Error::exists(What::Cron, id));
            }
            if let Some(thread) = new.thread {
                threads::place(tx, &tenant, thread)?.ok_or_else(|| Error::not_found(What::Thread, thread))?;
            }
            let cron = Cron::new(tenant, id, new, now);
            write(tx, None, &cron)?;
            Ok(cron)
        })
        .await
    }

    async fn get_cron(&self, tenant: &TenantId, id: CronId) -> Result<Cron> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(get(db, &tenant, id)?.1)).await
    }

    async fn update_cron(&self, tenant: &TenantId, id: CronId, update: CronUpdate) -> Result<Cron> {
        let now = self.now();
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, mut cron) = get(tx, &tenant, id)?;
            cron.apply(update, now);
            write(tx, Some(n), &cron)?;
            Ok(cron)
        })
        .await
    }

    async fn delete_cron(&self, tenant: &TenantId, id: CronId) -> Result<()> {
        let tenant = tenant.clone();
        let sql = "DELETE FROM crons WHERE tenant = ?1 AND id = ?2";
        self.write(move |tx| match tx.run(sql, params![tenant.as_str(), id.0.into_bytes()])? {
            0 => Err(Error::not_found(What::Cron, id)),
            _ => Ok(()),
        })
        .await
    }

    async fn list_crons(
        &self,
        tenant: &TenantId,
        filter: CronFilter,
        (sort, direction): (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let rows = matching(db, &tenant, &filter)?.into_iter().map(|(n, cron)| (sort.position(&cron, n), cron));
            paginate(rows.collect(), sort.tag(direction), direction, &page)
        })
        .await
    }

    async fn count_crons(&self, tenant: &TenantId, filter: CronFilter) -> Result<u64> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(matching(db, &tenant, &filter)?.len() as u64)).await
    }
}

/// Adds what is to be posted for a run that ends.
pub(crate) fn deliver(tx: &Tx<'_>, delivery: &Delivery) -> Result<()> {
    tx.run(
        "INSERT OR REPLACE INTO deliveries (run, next_at, created, attempts, url, body, tenant) \
         VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6)",
        params![
            delivery.run.0.into_bytes(),
            nanos(delivery.next_at),
            nanos(delivery.created_at),
            delivery.url,
            delivery.body,
            delivery.tenant.as_str()
        ],
    )?;
    Ok(())
}
