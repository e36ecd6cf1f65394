//! Crons and deliveries in SQLite.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use rusqlite::{Connection, params, params_from_iter};

use crate::{
    SqliteStore, runs,
    sql::{Columns, Sql, Where, object_text},
    threads,
    writer::Tx,
};
use runloom_store::{
    AssistantId, Cron, CronFilter, CronId, CronSort, CronUpdate, Crons, Deliveries, Delivery, Direction, Error, Firing,
    NewCron, Page, PageRequest, Result, Run, RunThread, What, delta, page::paginate, time::nanos,
};

const COLUMNS: &str = "n, id, owner, assistant, thread, schedule, timezone, end_at, enabled, keep, next_at, fired, \
    last_run, created, updated, error, metadata, request";

/// A cron with its place.
fn cron(row: &mut Columns<'_>) -> Result<(i64, Cron)> {
    let n = row.get()?;
    Ok((
        n,
        Cron {
            id: CronId(row.uuid()?),
            owner: row.get()?,
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

fn find(db: &Connection, id: CronId) -> Result<Option<(i64, Cron)>> {
    db.one(&format!("SELECT {COLUMNS} FROM crons WHERE id = ?1"), [id.0.into_bytes()], cron)
}

fn get(db: &Connection, id: CronId) -> Result<(i64, Cron)> {
    find(db, id)?.ok_or_else(|| Error::not_found(What::Cron, id))
}

/// Writes a cron, at its place or at a new one.
fn write(tx: &Tx<'_>, n: Option<i64>, cron: &Cron) -> Result<()> {
    let marks: Vec<String> = (1..=18).map(|i| format!("?{i}")).collect();
    tx.run(
        &format!("INSERT OR REPLACE INTO crons ({COLUMNS}) VALUES ({})", marks.join(", ")),
        params![
            n,
            cron.id.0.into_bytes(),
            cron.owner,
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
    tx.run("DELETE FROM crons WHERE thread = (SELECT id FROM threads WHERE n = ?1)", [thread]).map(|_| ())
}

/// The crons that a filter holds for, with their places.
fn matching(db: &Connection, filter: &CronFilter) -> Result<Vec<(i64, Cron)>> {
    let mut conditions = Where::default();
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
    async fn create_cron(&self, new: NewCron) -> Result<Cron> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| CronId(self.uuid()));
        self.write(move |tx| {
            if find(tx, id)?.is_some() {
                return Err(Error::exists(What::Cron, id));
            }
            if let Some(thread) = new.thread {
                threads::place(tx, thread)?.ok_or_else(|| Error::not_found(What::Thread, thread))?;
            }
            let cron = Cron::new(id, new, now);
            write(tx, None, &cron)?;
            Ok(cron)
        })
        .await
    }

    async fn get_cron(&self, id: CronId) -> Result<Cron> {
        self.read(move |db| Ok(get(db, id)?.1)).await
    }

    async fn update_cron(&self, id: CronId, update: CronUpdate) -> Result<Cron> {
        let now = self.now();
        self.write(move |tx| {
            let (n, mut cron) = get(tx, id)?;
            cron.apply(update, now);
            write(tx, Some(n), &cron)?;
            Ok(cron)
        })
        .await
    }

    async fn delete_cron(&self, id: CronId) -> Result<()> {
        self.write(move |tx| match tx.run("DELETE FROM crons WHERE id = ?1", [id.0.into_bytes()])? {
            0 => Err(Error::not_found(What::Cron, id)),
            _ => Ok(()),
        })
        .await
    }

    async fn list_crons(
        &self,
        filter: CronFilter,
        (sort, direction): (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        self.read(move |db| {
            let rows = matching(db, &filter)?.into_iter().map(|(n, cron)| (sort.position(&cron, n), cron));
            paginate(rows.collect(), sort.tag(direction), direction, &page)
        })
        .await
    }

    async fn count_crons(&self, filter: CronFilter) -> Result<u64> {
        self.read(move |db| Ok(matching(db, &filter)?.len() as u64)).await
    }

    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM crons WHERE next_at IS NOT NULL AND enabled ORDER BY next_at, n LIMIT {limit}"
            );
            db.all(&sql, [], |row| Ok(cron(row)?.1))
        })
        .await
    }

    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>> {
        let now = self.now();
        let ids = (RunId(self.uuid()), ThreadId(self.uuid()));
        self.write(move |tx| {
            let Some((n, mut cron)) = find(tx, firing.cron)?.filter(|(_, cron)| cron.is_due(&firing)) else {
                return Ok(None);
            };
            let made = match &firing.run {
                Err(why) => Err(why.clone()),
                Ok(new) => {
                    let thread = match &new.thread {
                        RunThread::Existing(id) => *id,
                        RunThread::Create(thread) => thread.id.unwrap_or(ids.1),
                    };
                    Ok(runs::create(tx, new.id.unwrap_or(ids.0), thread, new.clone(), now)?.run)
                }
            };
            cron.fired(firing.next, made.as_ref().map(|run| run.id).map_err(String::clone), now);
            write(tx, Some(n), &cron)?;
            Ok(made.ok())
        })
        .await
    }
}

/// Adds what is to be posted for a run that ends.
pub(crate) fn deliver(tx: &Tx<'_>, delivery: &Delivery) -> Result<()> {
    tx.run(
        "INSERT OR REPLACE INTO deliveries (run, next_at, created, attempts, url, body) VALUES (?1, ?2, ?3, 0, ?4, ?5)",
        params![
            delivery.run.0.into_bytes(),
            nanos(delivery.next_at),
            nanos(delivery.created_at),
            delivery.url,
            delivery.body
        ],
    )?;
    Ok(())
}

#[async_trait]
impl Deliveries for SqliteStore {
    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>> {
        self.read(move |db| {
            let sql = format!("SELECT run, next_at FROM deliveries ORDER BY next_at, run LIMIT {limit}");
            db.all(&sql, [], |row| Ok((RunId(row.uuid()?), row.time()?)))
        })
        .await
    }

    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>> {
        self.read(move |db| {
            let sql = "SELECT next_at, created, attempts, error, url, body FROM deliveries WHERE run = ?1";
            db.one(sql, [run.0.into_bytes()], |row| {
                Ok(Delivery {
                    run,
                    next_at: row.time()?,
                    created_at: row.time()?,
                    attempts: row.get()?,
                    error: row.get()?,
                    url: row.get()?,
                    body: row.get()?,
                })
            })
        })
        .await
    }

    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()> {
        let sql = "UPDATE deliveries SET next_at = ?2, error = ?3, attempts = attempts + 1 WHERE run = ?1";
        self.write(move |tx| tx.run(sql, params![run.0.into_bytes(), nanos(next), error]).map(|_| ())).await
    }

    async fn delete_delivery(&self, run: RunId) -> Result<()> {
        let sql = "DELETE FROM deliveries WHERE run = ?1";
        self.write(move |tx| tx.run(sql, [run.0.into_bytes()]).map(|_| ())).await
    }
}
