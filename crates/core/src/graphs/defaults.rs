//! The default assistant of each graph: always there, made where it is not, and gone with the graph.

use std::sync::Arc;

use runloom_engine::Value;
use runloom_store::{
    Assistant, AssistantFilter, AssistantSort, Direction, IfExists, NewAssistant, PageRequest, Store, TenantId,
};

use super::{registry::Registry, served::default_assistant_id, table::Table};
use crate::{Error, Reason, Result};

impl Registry {
    /// The default assistant of a graph, made where it is not there.
    pub async fn default_of(&self, store: &Arc<dyn Store>, tenant: &TenantId, name: &str) -> Result<Assistant> {
        let id = default_assistant_id(name);
        let assistant = match store.get_assistant(tenant, id).await {
            Err(runloom_store::Error::NotFound { .. }) => {
                let new = NewAssistant {
                    id: Some(id),
                    if_exists: IfExists::Keep,
                    graph: name.to_owned(),
                    name: name.to_owned(),
                    context: Value::object(),
                    metadata: [("created_by", Value::from("system"))].into_iter().collect(),
                    ..NewAssistant::default()
                };
                store.create_assistant(tenant, new).await?
            }
            found => found?,
        };
        if assistant.graph == name {
            return Ok(assistant);
        }
        let message = format!(
            "the id of the default assistant of graph `{name}`, {id}, is that of an assistant of graph `{}`; delete that \
             assistant",
            assistant.graph
        );
        Err(Error::new(Reason::AssistantExists, message).with("assistant_id", id).with("graph", name))
    }

    /// Deletes the default assistants of graphs that are gone, where nobody has changed them.
    pub(super) async fn forget_defaults(&self, store: &Arc<dyn Store>, table: &Table) -> Result<()> {
        let metadata = [("created_by", Value::from("system"))].into_iter().collect();
        let filter = AssistantFilter { metadata, ..AssistantFilter::default() };
        let sort = (AssistantSort::Created, Direction::Ascending);
        let (mut gone, mut page) = (Vec::new(), PageRequest::first(1000));
        loop {
            let found = store.list_assistants(&TenantId::default(), filter.clone(), sort, page).await?;
            let of_nobody = found.items.into_iter().filter(|assistant| {
                assistant.id == default_assistant_id(&assistant.graph)
                    && !table.defaults.contains_key(&assistant.id)
                    && !table.broken.contains_key(&assistant.graph)
            });
            gone.extend(of_nobody.map(|assistant| assistant.graph));
            match found.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => break,
            }
        }
        for graph in gone {
            self.drop_default(store, &graph).await?;
        }
        Ok(())
    }

    /// Deletes the default assistant of a graph that runs cannot be asked of any more, unless somebody has changed it:
    /// then it waits for the graph to come back.
    pub(super) async fn drop_default(&self, store: &Arc<dyn Store>, name: &str) -> Result<()> {
        let id = default_assistant_id(name);
        match store.get_assistant(&TenantId::default(), id).await {
            Ok(a) if a.version == 1 && a.updated_at == a.created_at && a.graph == name => {}
            Ok(_) | Err(runloom_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match store.delete_assistant(&TenantId::default(), id).await {
            Ok(()) | Err(runloom_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
