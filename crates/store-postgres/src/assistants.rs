//! Assistants in Postgres. There are few of them: lists are filtered and sorted once they are read.

use async_trait::async_trait;
use runloom_engine::Object;
use runloom_store::{
    Assistant, AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Assistants, Direction, Error, IfExists,
    NewAssistant, Page, PageRequest, Result, TenantId, What,
    assistants::{page_of_versions, position_of},
    page::paginate,
    time::nanos,
};

use crate::{
    PostgresStore,
    fault::{Done, Fault},
    sql::{Columns, Db, args, object_text, safe, value_text},
    tx::{Tx, read, transact},
};

/// Of an assistant joined with one of its versions: `a` and `v`.
const COLUMNS: &str = "a.n, a.tenant, a.id, a.created, a.updated, v.version, v.graph, v.name, v.description, \
    v.config, v.context, v.metadata FROM runloom.assistants a JOIN runloom.assistant_versions v ON v.assistant = a.n";

/// A row: the assistant's place, and the assistant.
fn assistant(row: &mut Columns<'_>) -> Done<(i64, Assistant)> {
    let n = row.get()?;
    let (tenant, id, created_at, updated_at) = (row.tenant()?, AssistantId(row.uuid()?), row.time()?, row.time()?);
    let version = row.number()?;
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
async fn latest(db: &mut Db, tenant: &TenantId, id: AssistantId) -> Done<(i64, Assistant)> {
    let sql = format!("SELECT {COLUMNS} AND v.version = a.version WHERE a.tenant = $1 AND a.id = $2");
    let found = db.one(safe(sql), args![tenant.as_str(), id.0], assistant).await?;
    Ok(found.ok_or_else(|| Error::not_found(What::Assistant, id))?)
}

/// Locks an assistant's row, then reads it: another change may have made another version the latest meanwhile.
async fn locked(tx: &mut Tx, tenant: &TenantId, id: AssistantId) -> Done<(i64, Assistant)> {
    let sql = "SELECT 1 FROM runloom.assistants WHERE tenant = $1 AND id = $2 FOR UPDATE";
    tx.one(sql, args![tenant.as_str(), id.0], |_| Ok(())).await?;
    latest(tx, tenant, id).await
}

async fn all(db: &mut Db, tenant: &TenantId, filter: &AssistantFilter) -> Done<Vec<(i64, Assistant)>> {
    let sql = format!("SELECT {COLUMNS} AND v.version = a.version WHERE a.tenant = $1");
    let mut rows = db.all(safe(sql), args![tenant.as_str()], assistant).await?;
    rows.retain(|(_, assistant)| filter.matches(assistant));
    Ok(rows)
}

async fn insert_version(tx: &mut Tx, n: i64, a: &Assistant) -> Done<()> {
    let context = value_text(Some(&a.context).filter(|context| !context.is_null()))?;
    let sql = "INSERT INTO runloom.assistant_versions (assistant, version, created, graph, name, description, config, \
        context, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let args = args![
        n,
        i64::from(a.version),
        nanos(a.updated_at),
        &a.graph,
        &a.name,
        &a.description,
        object_text(&a.config)?,
        context,
        object_text(&a.metadata)?,
    ];
    tx.run(sql, args).await.map(|_| ())
}

async fn set_version(tx: &mut Tx, n: i64, a: &Assistant) -> Done<()> {
    let sql = "UPDATE runloom.assistants SET version = $2, updated = $3 WHERE n = $1";
    tx.run(sql, args![n, i64::from(a.version), nanos(a.updated_at)]).await.map(|_| ())
}

#[async_trait]
impl Assistants for PostgresStore {
    async fn create_assistant(&self, tenant: &TenantId, new: NewAssistant) -> Result<Assistant> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| AssistantId(self.uuid()));
        transact!(self, |tx| {
            match latest(tx, tenant, id).await {
                Err(Fault::Store(Error::NotFound { .. })) => {}
                Ok((_, found)) if new.if_exists == IfExists::Keep => return Ok(found),
                Ok(_) => return Err(Error::exists(What::Assistant, id).into()),
                Err(other) => return Err(other),
            }
            let assistant = Assistant::new(tenant.clone(), id, new.clone(), now);
            let sql = "INSERT INTO runloom.assistants (tenant, id, version, created, updated) VALUES ($1, $2, 1, $3, $3) \
                RETURNING n";
            let n = tx.one(sql, args![tenant.as_str(), id.0, nanos(now)], |row| row.get()).await?;
            insert_version(tx, n.unwrap_or_default(), &assistant).await?;
            Ok(assistant)
        })
    }

    async fn get_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<Assistant> {
        read!(self, |db| Ok(latest(db, tenant, id).await?.1))
    }

    async fn update_assistant(&self, tenant: &TenantId, id: AssistantId, update: AssistantUpdate) -> Result<Assistant> {
        let now = self.now();
        transact!(self, |tx| {
            let (n, mut assistant) = locked(tx, tenant, id).await?;
            let highest = "SELECT max(version) FROM runloom.assistant_versions WHERE assistant = $1";
            let highest: u32 = tx.one(highest, args![n], |row| row.number()).await?.unwrap_or_default();
            assistant.apply(update.clone(), highest + 1, now);
            insert_version(tx, n, &assistant).await?;
            set_version(tx, n, &assistant).await?;
            Ok(assistant)
        })
    }

    async fn delete_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<()> {
        transact!(self, |tx| {
            let (n, _) = locked(tx, tenant, id).await?;
            tx.run("DELETE FROM runloom.assistant_versions WHERE assistant = $1", args![n]).await?;
            tx.run("DELETE FROM runloom.assistants WHERE n = $1", args![n]).await.map(|_| ())
        })
    }

    async fn list_assistants(
        &self,
        tenant: &TenantId,
        filter: AssistantFilter,
        (sort, direction): (AssistantSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let rows: Result<_> = read!(self, |db| all(db, tenant, &filter).await);
        let rows = rows?.into_iter().map(|(n, assistant)| (position_of(&assistant, sort, n), assistant));
        paginate(rows.collect(), sort.tag(direction), direction, &page)
    }

    async fn count_assistants(&self, tenant: &TenantId, filter: AssistantFilter) -> Result<u64> {
        read!(self, |db| Ok(all(db, tenant, &filter).await?.len() as u64))
    }

    async fn list_versions(
        &self,
        tenant: &TenantId,
        id: AssistantId,
        metadata: Object,
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let versions: Result<_> = read!(self, |db| {
            let (n, _) = latest(db, tenant, id).await?;
            db.all(safe(format!("SELECT v.created, {COLUMNS} WHERE a.n = $1")), args![n], |row| {
                // A version was made when it says, not when the assistant was.
                let made = row.time()?;
                let (_, version) = assistant(row)?;
                Ok(Assistant { created_at: made, updated_at: made, ..version })
            })
            .await
        });
        page_of_versions(versions?, &metadata, &page)
    }

    async fn set_latest(&self, tenant: &TenantId, id: AssistantId, version: u32) -> Result<Assistant> {
        let now = self.now();
        transact!(self, |tx| {
            let (n, known) = locked(tx, tenant, id).await?;
            let sql = format!("SELECT {COLUMNS} WHERE a.n = $1 AND v.version = $2");
            let found = tx.one(safe(sql), args![n, i64::from(version)], assistant).await?;
            let (_, found) = found.ok_or_else(|| Error::not_found(What::Version, version))?;
            let assistant = known.at_version(found, now);
            set_version(tx, n, &assistant).await?;
            Ok(assistant)
        })
    }
}
