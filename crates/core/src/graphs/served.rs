//! A graph as it is served: compiled, with its schemas ready and what is known of it.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use runloom_engine::{ChannelSpec, Graph, Reducer};
use runloom_store::{AssistantId, TenantId};
use uuid::{Uuid, uuid};

use super::{check::Check, schemas::Schemas};
use crate::Result;

/// The namespace of the ids of default assistants, as LangGraph's servers have it.
const NAMESPACE: Uuid = uuid!("6ba7b821-9dad-11d1-80b4-00c04fd430c8");

/// The id of a graph's default assistant: it follows from the graph's name, on every server.
pub fn default_assistant_id(graph: &str) -> AssistantId {
    AssistantId(Uuid::new_v5(&NAMESPACE, graph.as_bytes()))
}

/// Where a graph comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GraphSource {
    /// A document in the folder that the server watches.
    Folder,
    /// Built into the program.
    Program,
    /// Registered over the API.
    Registered,
}

impl GraphSource {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Program => "program",
            Self::Registered => "registered",
        }
    }
}

impl fmt::Display for GraphSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is odd in a graph, but no fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphWarning {
    /// What.
    pub message: String,
    /// The line of its document it stands in, from 1, where known.
    pub line: Option<u32>,
    /// The column it starts at, from 1, where known.
    pub column: Option<u32>,
}

/// What is known of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphInfo {
    /// Its name, unique in the server.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The hash of what it is.
    pub revision: String,
    /// Where it comes from.
    pub source: GraphSource,
    /// The file it comes from, where it comes from the folder.
    pub file: Option<String>,
    /// Whether it is usable as a subgraph only.
    pub hidden: bool,
    /// The id of its default assistant; none for a hidden graph.
    pub default_assistant_id: Option<AssistantId>,
    /// When it was first known.
    pub created_at: SystemTime,
    /// When it came to its present revision.
    pub updated_at: SystemTime,
    /// What is odd in it.
    pub warnings: Vec<GraphWarning>,
}

/// A graph in one revision, ready to run.
pub(crate) struct Served {
    /// The name it is served under.
    pub name: Arc<str>,
    /// The graph, with its runtime but for the checkpointer, which each run brings.
    pub graph: Graph,
    /// Its revision.
    pub revision: Arc<str>,
    /// Where it comes from.
    pub source: GraphSource,
    /// The file it comes from.
    pub file: Option<Arc<str>>,
    /// Whether it is usable as a subgraph only.
    pub hidden: bool,
    /// What is odd in it.
    pub warnings: Vec<GraphWarning>,
    /// What it takes and gives.
    pub schemas: Schemas,
    /// When it was first known.
    pub created_at: SystemTime,
    /// When it came to this revision.
    pub updated_at: SystemTime,
    /// Its document, where it comes from one.
    pub text: Option<Arc<str>>,
    /// The graphs that its document runs inside, by name.
    pub uses: Vec<Arc<str>>,
    pub(super) channels: HashMap<Arc<str>, Check>,
    pub(super) context: Option<Check>,
}

impl Served {
    /// Makes a graph ready. A schema that cannot be used is an error of the graph.
    pub(super) fn new(name: &str, graph: Graph, source: GraphSource, now: SystemTime) -> Result<Self> {
        let mut channels = HashMap::new();
        for channel in graph.channels().iter().filter(|c| is_checked(c)) {
            if let Some(schema) = &channel.schema {
                let place = format!("state.{}.schema", channel.name);
                channels.insert(channel.name.clone(), Check::new(schema, name, &place)?);
            }
        }
        let context = graph.context_schema().map(|schema| Check::new(schema, name, "context.schema")).transpose()?;
        let warnings = graph.warnings().iter();
        Ok(Self {
            name: name.into(),
            revision: graph.revision().clone(),
            source,
            file: None,
            hidden: false,
            warnings: warnings.map(|w| GraphWarning { message: w.clone(), line: None, column: None }).collect(),
            schemas: Schemas::of(&graph),
            created_at: now,
            updated_at: now,
            text: None,
            uses: Vec::new(),
            channels,
            context,
            graph,
        })
    }

    /// What is known of it.
    pub fn info(&self) -> GraphInfo {
        GraphInfo {
            name: self.name.to_string(),
            description: self.graph.description().to_owned(),
            revision: self.revision.to_string(),
            source: self.source,
            file: self.file.as_ref().map(ToString::to_string),
            hidden: self.hidden,
            default_assistant_id: (!self.hidden).then(|| default_assistant_id(&self.name)),
            created_at: self.created_at,
            updated_at: self.updated_at,
            warnings: self.warnings.clone(),
        }
    }

    /// Where it comes from, for an error: `the folder (agent.yaml)`.
    pub fn origin(&self) -> String {
        match (&self.file, self.source) {
            (Some(file), _) => format!("the folder ({file})"),
            (None, GraphSource::Folder) => "the folder".to_owned(),
            (None, GraphSource::Program) => "the program".to_owned(),
            (None, GraphSource::Registered) => "a registration".to_owned(),
        }
    }
}

/// Whether a tenant sees a graph: those of the program and the folder are for all, registered ones are the default tenant's.
pub(crate) fn is_visible(tenant: &TenantId, served: &Served) -> bool {
    tenant.is_default() || served.source != GraphSource::Registered
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({} {} {})", self.name, self.revision, self.source)
    }
}

/// Whether what is written to a channel is checked against its schema: a reducer of the program's own may take
/// something else than it gives, and messages are written in many forms.
fn is_checked(channel: &ChannelSpec) -> bool {
    !matches!(channel.reducer, Reducer::Custom(_) | Reducer::Messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_assistants_have_the_ids_that_langgraph_gives_them() {
        assert_eq!(default_assistant_id("agent").to_string(), "fe096781-5601-53d2-b2f6-0d3403f7e9ca");
        assert_eq!(default_assistant_id("assistants").to_string(), "9fbe4419-6818-5109-a9fa-480ed468f139");
    }
}
