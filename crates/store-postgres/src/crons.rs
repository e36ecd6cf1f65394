//! Crons in Postgres, and the rows of deliveries.

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    AssistantId, Cron, CronFilter, CronId, CronSort, CronUpdate, Crons, Delivery, Direction, Error, NewCron, Page,
    PageRequest, Result, TenantId, Topic, What, delta, page::paginate, time::nanos,
};

use crate::{
    PostgresStore,
    fault::Done,
    sql::{Columns, Db, Where, args, object_text, safe},
    threads,
    tx::{Tx, read, transact},
};

pub(crate) const COLUMNS: &str = "n, tenant, id, assistant, thread, schedule, timezone, end_at, enabled, keep, next_at, \
    fired, last_run, created, updated, error, metadata, request";

/// A cron with its place.
pub(crate) fn cron(row: &mut Columns<'_>) -> Done<(i64, Cron)> {
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
            request: row.json()?.unwrap_or_default(),
        },
    ))
}

/// A cron with its place; locked where it is to change.
pub(crate) async fn find(db: &mut Db, tenant: &TenantId, id: CronId, is_locked: bool) -> Done<Option<(i64, Cron)>> {
    let lock = if is_locked { "FOR UPDATE" } else { "" };
    let sql = format!("SELECT {COLUMNS} FROM runloom.crons WHERE tenant = $1 AND id = $2 {lock}");
    db.one(safe(sql), args![tenant.as_str(), id.0], cron).await
}

async fn get(db: &mut Db, tenant: &TenantId, id: CronId, is_locked: bool) -> Done<(i64, Cron)> {
    Ok(find(db, tenant, id, is_locked).await?.ok_or_else(|| Error::not_found(What::Cron, id))?)
}

async fn insert(tx: &mut Tx, cron: &Cron) -> Done<()> {
    tx.hint([Topic::Schedules]);
    let sql = "INSERT INTO runloom.crons (tenant, id, assistant, thread, schedule, timezone, end_at, enabled, keep, \
        next_at, fired, last_run, created, updated, error, metadata, request) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    let args = args![
        cron.tenant.as_str(),
        cron.id.0,
        cron.assistant.0,
        cron.thread.map(|id| id.0),
        &cron.schedule,
        &cron.timezone,
        cron.end_at.map(nanos),
        cron.enabled,
        cron.keep,
        cron.next_at.map(nanos),
        cron.fired_at.map(nanos),
        cron.last_run.map(|id| id.0),
        nanos(cron.created_at),
        nanos(cron.updated_at),
        &cron.error,
        object_text(&cron.metadata)?,
        delta::encode(&cron.request)?,
    ];
    tx.run(sql, args).await.map(|_| ())
}

/// Writes all of a cron that can change.
pub(crate) async fn write(tx: &mut Tx, n: i64, cron: &Cron) -> Done<()> {
    tx.hint([Topic::Schedules]);
    let sql = "UPDATE runloom.crons SET schedule = $2, timezone = $3, end_at = $4, enabled = $5, keep = $6, next_at = $7, \
        fired = $8, last_run = $9, updated = $10, error = $11, metadata = $12, request = $13 WHERE n = $1";
    let args = args![
        n,
        &cron.schedule,
        &cron.timezone,
        cron.end_at.map(nanos),
        cron.enabled,
        cron.keep,
        cron.next_at.map(nanos),
        cron.fired_at.map(nanos),
        cron.last_run.map(|id| id.0),
        nanos(cron.updated_at),
        &cron.error,
        object_text(&cron.metadata)?,
        delta::encode(&cron.request)?,
    ];
    tx.run(sql, args).await.map(|_| ())
}

/// Deletes the crons on a thread.
pub(crate) async fn delete_of(tx: &mut Tx, thread: i64) -> Done<()> {
    let sql = "DELETE FROM runloom.crons c USING runloom.threads t WHERE t.n = $1 AND c.tenant = t.tenant AND c.thread = t.id";
    tx.run(sql, args![thread]).await.map(|_| ())
}

/// The crons that a filter holds for, with their places.
async fn matching(db: &mut Db, tenant: &TenantId, filter: &CronFilter) -> Done<Vec<(i64, Cron)>> {
    let mut conditions = Where::default();
    conditions.and("tenant = ?", tenant.as_str())?;
    if let Some(assistant) = filter.assistant {
        conditions.and("assistant = ?", assistant.0)?;
    }
    if let Some(thread) = filter.thread {
        conditions.and("thread = ?", thread.0)?;
    }
    let sql = format!("SELECT {COLUMNS} FROM runloom.crons {}", conditions.sql());
    let mut found = db.all(safe(sql), conditions.args, cron).await?;
    found.retain(|(_, cron)| filter.matches(cron));
    Ok(found)
}

#[async_trait]
impl Crons for PostgresStore {
    async fn create_cron(&self, tenant: &TenantId, new: NewCron) -> Result<Cron> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| CronId(self.uuid()));
        transact!(self, |tx| {
            if find(tx, tenant, id, false).await?.is_some() {
                return Err(Error::exists(What::Cron, id).into());
            }
            if let Some(thread) = new.thread {
                threads::known(tx, tenant, thread, threads::Lock::Change).await?;
            }
            let cron = Cron::new(tenant.clone(), id, new.clone(), now);
            insert(tx, &cron).await?;
            Ok(cron)
        })
    }

    async fn get_cron(&self, tenant: &TenantId, id: CronId) -> Result<Cron> {
        read!(self, |db| Ok(get(db, tenant, id, false).await?.1))
    }

    async fn update_cron(&self, tenant: &TenantId, id: CronId, update: CronUpdate) -> Result<Cron> {
        let now = self.now();
        transact!(self, |tx| {
            let (n, mut cron) = get(tx, tenant, id, true).await?;
            cron.apply(update.clone(), now);
            write(tx, n, &cron).await?;
            Ok(cron)
        })
    }

    async fn delete_cron(&self, tenant: &TenantId, id: CronId) -> Result<()> {
        transact!(self, |tx| {
            let sql = "DELETE FROM runloom.crons WHERE tenant = $1 AND id = $2";
            match tx.run(sql, args![tenant.as_str(), id.0]).await? {
                0 => Err(Error::not_found(What::Cron, id).into()),
                _ => Ok(()),
            }
        })
    }

    async fn list_crons(
        &self,
        tenant: &TenantId,
        filter: CronFilter,
        (sort, direction): (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        let rows: Result<_> = read!(self, |db| matching(db, tenant, &filter).await);
        let rows = rows?.into_iter().map(|(n, cron)| (sort.position(&cron, n), cron));
        paginate(rows.collect(), sort.tag(direction), direction, &page)
    }

    async fn count_crons(&self, tenant: &TenantId, filter: CronFilter) -> Result<u64> {
        read!(self, |db| Ok(matching(db, tenant, &filter).await?.len() as u64))
    }
}

/// Adds what is to be posted for a run that ends.
pub(crate) async fn deliver(tx: &mut Tx, delivery: &Delivery) -> Done<()> {
    let sql = "INSERT INTO runloom.deliveries (run, next_at, created, attempts, url, body, tenant) \
        VALUES ($1, $2, $3, 0, $4, $5, $6) ON CONFLICT (run) DO UPDATE SET next_at = excluded.next_at, \
        created = excluded.created, attempts = 0, error = NULL, url = excluded.url, body = excluded.body";
    let args = args![
        delivery.run.0,
        nanos(delivery.next_at),
        nanos(delivery.created_at),
        &delivery.url,
        &delivery.body,
        delivery.tenant.as_str(),
    ];
    tx.run(sql, args).await.map(|_| ())
}
