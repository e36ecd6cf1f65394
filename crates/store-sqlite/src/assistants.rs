//! Assistants in SQLite. There are few of them: lists are filtered and sorted once they are read.

use async_trait::async_trait;
use runloom_engine::Object;
use rusqlite::{Connection, params};

use crate::{
    SqliteStore,
    sql::{Columns, Sql, first, object_text, value_text},
    writer::Tx,
};
use runloom_store::{
    Assistant, AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Assistants, Direction, Error, IfExists,
    NewAssistant, Page, PageRequest, Result, TenantId, What,
    assistants::{page_of_versions, position_of},
    page::paginate,
    time::nanos,
};

/// Of an assistant joined with one of its versions: `a` and `v`.
const COLUMNS: &str = "a.n, a.tenant, a.id, a.created, a.updated, v.version, v.graph, v.name, v.description, \
    v.config, v.context, v.metadata FROM assistants a JOIN assistant_versions v ON v.assistant = a.n";

/// A row: the assistant's place, and the assistant.
fn assistant(row: &mut Columns<'_>) -> Result<(i64, Assistant)> {
    let n = row.get()?;
    let (tenant, id, created_at, updated_at) = (row.tenant()?, AssistantId(row.uuid()?), row.time()?, row.time()?);
    let version = row.get()?;
    Ok((
        n,
        Assistant {
            id,
            tenant,
            graph: row.get()?,
            name: row.get()?,
            description: row.get()?,
            config: row.object()?,
            context: row.json()?.unwrap_or_default(),
            metadata: row.object()?,
            version,
            created_at,
            updated_at,
        },
    ))
}

/// An assistant in its latest version, with its place.
fn latest(db: &Connection, tenant: &TenantId, id: AssistantId) -> Result<(i64, Assistant)> {
    let sql = format!("SELECT {COLUMNS} AND v.version = a.version WHERE a.tenant = ?1 AND a.id = ?2");
    db.one(&sql, params![tenant.as_str(), id.0.into_bytes()], assistant)?
        .ok_or_else(|| Error::not_found(What::Assistant, id))
}

fn all(db: &Connection, tenant: &TenantId, filter: &AssistantFilter) -> Result<Vec<(i64, Assistant)>> {
    let mut rows = db.all(
        &format!("SELECT {COLUMNS} AND v.version = a.version WHERE a.tenant = ?1"),
        [tenant.as_str()],
        assistant,
    )?;
    rows.retain(|(_, assistant)| filter.matches(assistant));
    Ok(rows)
}

/// A row as one of the versions: made when that was.
fn version(row: &mut Columns<'_>) -> Result<Assistant> {
    let made = row.time()?;
    let (_, assistant) = assistant(row)?;
    Ok(Assistant { created_at: made, updated_at: made, ..assistant })
}

fn insert_version(tx: &Tx<'_>, n: i64, a: &Assistant) -> Result<()> {
    let context = value_text(Some(&a.context).filter(|context| !context.is_null()))?;
    tx.run(
        "INSERT INTO assistant_versions (assistant, version, created, graph, name, description, config, context, \
         metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            n,
            a.version,
            nanos(a.updated_at),
            a.graph,
            a.name,
            a.description,
            object_text(&a.config)?,
            context,
            object_text(&a.metadata)?
        ],
    )?;
    Ok(())
}

fn set_version(tx: &Tx<'_>, n: i64, a: &Assistant) -> Result<()> {
    let sql = "UPDATE assistants SET version = ?2, updated = ?3 WHERE n = ?1";
    tx.run(sql, params![n, a.version, nanos(a.updated_at)]).map(|_| ())
}

#[async_trait]
impl Assistants for SqliteStore {
    async fn create_assistant(&self, tenant: &TenantId, new: NewAssistant) -> Result<Assistant> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| AssistantId(self.uuid()));
        let tenant = tenant.clone();
        self.write(move |tx| {
            match latest(tx, &tenant, id) {
                Err(Error::NotFound { .. }) => {}
                Ok((_, found)) if new.if_exists == IfExists::Keep => return Ok(found),
                Ok(_) => return Err(Error::exists(What::Assistant, id)),
                Err(other) => return Err(other),
            }
            let assistant = Assistant::new(tenant.clone(), id, new, now);
            let sql = "INSERT INTO assistants (tenant, id, version, created, updated) VALUES (?1, ?2, 1, ?3, ?3)";
            tx.run(sql, params![tenant.as_str(), id.0.into_bytes(), nanos(now)])?;
            insert_version(tx, tx.last_insert_rowid(), &assistant)?;
            Ok(assistant)
        })
        .await
    }

    async fn get_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<Assistant> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(latest(db, &tenant, id)?.1)).await
    }

    async fn update_assistant(&self, tenant: &TenantId, id: AssistantId, update: AssistantUpdate) -> Result<Assistant> {
        let now = self.now();
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, mut assistant) = latest(tx, &tenant, id)?;
            let highest = "SELECT max(version) FROM assistant_versions WHERE assistant = ?1";
            let highest: u32 = tx.one(highest, [n], first)?.unwrap_or_default();
            assistant.apply(update, highest + 1, now);
            insert_version(tx, n, &assistant)?;
            set_version(tx, n, &assistant)?;
            Ok(assistant)
        })
        .await
    }

    async fn delete_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<()> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, _) = latest(tx, &tenant, id)?;
            tx.run("DELETE FROM assistant_versions WHERE assistant = ?1", [n])?;
            tx.run("DELETE FROM assistants WHERE n = ?1", [n]).map(|_| ())
        })
        .await
    }

    async fn list_assistants(
        &self,
        tenant: &TenantId,
        filter: AssistantFilter,
        (sort, direction): (AssistantSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let tenant = tenant.clone();
        let rows = self.read(move |db| all(db, &tenant, &filter)).await?;
        let rows = rows.into_iter().map(|(n, assistant)| (position_of(&assistant, sort, n), assistant));
        paginate(rows.collect(), sort.tag(direction), direction, &page)
    }

    async fn count_assistants(&self, tenant: &TenantId, filter: AssistantFilter) -> Result<u64> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(all(db, &tenant, &filter)?.len() as u64)).await
    }

    async fn list_versions(
        &self,
        tenant: &TenantId,
        id: AssistantId,
        metadata: Object,
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let tenant = tenant.clone();
        let versions = self.read(move |db| {
            let (n, _) = latest(db, &tenant, id)?;
            db.all(&format!("SELECT v.created, {COLUMNS} WHERE a.n = ?1"), [n], version)
        });
        page_of_versions(versions.await?, &metadata, &page)
    }

    async fn set_latest(&self, tenant: &TenantId, id: AssistantId, version: u32) -> Result<Assistant> {
        let now = self.now();
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, known) = latest(tx, &tenant, id)?;
            let sql = format!("SELECT {COLUMNS} WHERE a.n = ?1 AND v.version = ?2");
            let found = tx.one(&sql, params![n, version], assistant)?;
            let (_, found) = found.ok_or_else(|| Error::not_found(What::Version, version))?;
            let assistant = known.at_version(found, now);
            set_version(tx, n, &assistant)?;
            Ok(assistant)
        })
        .await
    }
}
