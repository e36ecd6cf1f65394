//! Assistants and their versions.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{Object, Value};

use crate::{
    AssistantId, Direction, IfExists, Page, PageRequest, Result, TenantId, contains,
    filter::merge,
    page::{Key, Position, order_tag, paginate},
    time::nanos,
};

/// An assistant, in one of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Assistant {
    /// Its id.
    pub id: AssistantId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The graph's name.
    pub graph: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The configuration of its runs.
    pub config: Object,
    /// The context of its runs.
    pub context: Value,
    /// What its users say of it.
    pub metadata: Object,
    /// The version, from 1.
    pub version: u32,
    /// When the assistant was made; in a list of versions, when the version was.
    pub created_at: SystemTime,
    /// When the assistant last changed.
    pub updated_at: SystemTime,
}

/// An assistant to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewAssistant {
    /// Its id; a new one where there is none.
    pub id: Option<AssistantId>,
    /// What to do where the id is taken.
    pub if_exists: IfExists,
    /// The graph's name.
    pub graph: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The configuration of its runs.
    pub config: Object,
    /// The context of its runs.
    pub context: Value,
    /// What its users say of it.
    pub metadata: Object,
}

/// What the next version of an assistant changes. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AssistantUpdate {
    /// The graph's name.
    pub graph: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// What it is for; an empty text clears it.
    pub description: Option<String>,
    /// In place of the configuration.
    pub config: Option<Object>,
    /// In place of the context.
    pub context: Option<Value>,
    /// Merged into the metadata as a thread's is: a `null` takes a key away.
    pub metadata: Option<Object>,
}

/// Which assistants. Every condition must hold; an empty one holds for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AssistantFilter {
    /// Only of this graph.
    pub graph: Option<String>,
    /// Only those whose name has this in it, whatever the case.
    pub name: Option<String>,
    /// Only those whose metadata [`contains`] this.
    pub metadata: Object,
}

/// By what assistants are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssistantSort {
    /// When they were made.
    #[default]
    Created,
    /// When they last changed.
    Updated,
    /// Their name.
    Name,
    /// Their id.
    Id,
    /// The name of their graph.
    Graph,
}

/// Assistants.
#[async_trait]
pub trait Assistants: Send + Sync {
    /// Makes an assistant, at version 1.
    async fn create_assistant(&self, tenant: &TenantId, new: NewAssistant) -> Result<Assistant>;

    /// An assistant, in its latest version.
    async fn get_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<Assistant>;

    /// Makes a version after the highest, and makes it the latest.
    async fn update_assistant(&self, tenant: &TenantId, id: AssistantId, update: AssistantUpdate) -> Result<Assistant>;

    /// Deletes an assistant with its versions. Its runs and threads stay.
    async fn delete_assistant(&self, tenant: &TenantId, id: AssistantId) -> Result<()>;

    /// Assistants by filter, each in its latest version, a page at a time.
    async fn list_assistants(
        &self,
        tenant: &TenantId,
        filter: AssistantFilter,
        sort: (AssistantSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Assistant>>;

    /// How many assistants a filter holds for.
    async fn count_assistants(&self, tenant: &TenantId, filter: AssistantFilter) -> Result<u64>;

    /// The versions of an assistant, the highest first, of those whose metadata [`contains`] this.
    async fn list_versions(
        &self,
        tenant: &TenantId,
        id: AssistantId,
        metadata: Object,
        page: PageRequest,
    ) -> Result<Page<Assistant>>;

    /// Makes a version the latest.
    async fn set_latest(&self, tenant: &TenantId, id: AssistantId, version: u32) -> Result<Assistant>;
}

impl Assistant {
    /// The assistant of a request, at version 1.
    pub fn new(tenant: TenantId, id: AssistantId, new: NewAssistant, now: SystemTime) -> Self {
        Self {
            id,
            tenant,
            graph: new.graph,
            name: new.name,
            description: new.description.filter(|d| !d.is_empty()),
            config: new.config,
            context: new.context,
            metadata: merge(Object::default(), &new.metadata),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Applies an update, which makes it this version.
    pub fn apply(&mut self, update: AssistantUpdate, version: u32, now: SystemTime) {
        if let Some(graph) = update.graph {
            self.graph = graph;
        }
        if let Some(name) = update.name {
            self.name = name;
        }
        if let Some(description) = update.description {
            self.description = Some(description).filter(|d| !d.is_empty());
        }
        if let Some(config) = update.config {
            self.config = config;
        }
        if let Some(context) = update.context {
            self.context = context;
        }
        if let Some(metadata) = &update.metadata {
            self.metadata = merge(std::mem::take(&mut self.metadata), metadata);
        }
        self.version = version;
        self.updated_at = now;
    }

    /// It as one of its versions, which was made when it last changed.
    pub fn as_version(&self) -> Self {
        Self { created_at: self.updated_at, ..self.clone() }
    }

    /// It with a version as the latest.
    pub fn at_version(&self, version: Self, now: SystemTime) -> Self {
        Self { created_at: self.created_at, updated_at: now, ..version }
    }
}

impl AssistantSort {
    /// Names the order in page tokens.
    pub fn tag(self, direction: Direction) -> u8 {
        order_tag(3, self as u8, direction)
    }
}

/// Where an assistant stands in a list.
pub fn position_of(assistant: &Assistant, sort: AssistantSort, ordinal: i64) -> Position {
    let key = match sort {
        AssistantSort::Created => Key::Int(ordinal),
        AssistantSort::Updated => Key::Int(nanos(assistant.updated_at)),
        AssistantSort::Name => Key::Bytes(assistant.name.clone().into()),
        AssistantSort::Id => Key::Bytes(assistant.id.0.as_bytes().to_vec()),
        AssistantSort::Graph => Key::Bytes(assistant.graph.clone().into()),
    };
    Position { key, ordinal }
}

/// A page of the versions of an assistant, the highest first.
pub fn page_of_versions(versions: Vec<Assistant>, has: &Object, page: &PageRequest) -> Result<Page<Assistant>> {
    let rows = versions.into_iter().filter(|v| contains(&v.metadata, has)).map(|v| {
        let version = i64::from(v.version);
        (Position { key: Key::Int(version), ordinal: version }, v)
    });
    paginate(rows.collect(), order_tag(4, 0, Direction::Descending), Direction::Descending, page)
}

impl AssistantFilter {
    /// True where an assistant is one of those meant.
    pub fn matches(&self, assistant: &Assistant) -> bool {
        self.graph.as_ref().is_none_or(|graph| assistant.graph == *graph)
            && self.name.as_ref().is_none_or(|n| assistant.name.to_lowercase().contains(&n.to_lowercase()))
            && contains(&assistant.metadata, &self.metadata)
    }
}
