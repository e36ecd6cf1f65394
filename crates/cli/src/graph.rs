//! `runloom graph`: checks and draws graph documents, and lists graphs.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use runloom::v1::{Graph, GraphSource, ListGraphsRequest};
use runloom_document::{Document, DocumentSet, Problem, Registry};

use crate::{
    backend::Backend,
    examples,
    exit::{self, Exit},
    failure::{Failure, Result},
    integrations::Mcp,
    screen::Screen,
    style::{ASK, BAD, DIM, GOOD, brief},
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  runloom graph check graphs/*.yaml          all errors, as file:line:column; exit code 1 if any
  runloom graph check graphs                 all documents of a folder
  runloom graph draw graphs/agent.yaml       a Mermaid flowchart
  runloom graph draw joke > joke.mmd         of an example
  runloom graph list                         the built-in examples
  runloom graph list --addr 127.0.0.1:50051  the graphs of a server

Subgraphs are looked up in the other documents of the same folder.";

/// Check and draw graph documents, and list graphs
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct GraphCommand {
    #[command(subcommand)]
    action: GraphAction,
}

#[derive(Subcommand, Debug)]
enum GraphAction {
    /// Check documents, and print all errors
    #[command(after_help = "Example: runloom graph check graphs")]
    Check {
        /// Documents, or folders with documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        mcp: Mcp,
    },
    /// Draw a document as a Mermaid flowchart
    #[command(after_help = "Example: runloom graph draw graphs/agent.yaml --depth 2 > agent.mmd")]
    Draw {
        /// A document, or the name of an example
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Number of levels of subgraphs to expand
        #[arg(long, value_name = "N", default_value_t = 0)]
        depth: usize,
    },
    /// List the graphs of a server, or those that `runloom run` knows
    #[command(after_help = "Example: runloom graph list --addr 127.0.0.1:50051 --json")]
    List {
        /// Print each graph as a JSON object on one line
        #[arg(long)]
        json: bool,
        /// Include hidden graphs, which run only as subgraphs
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        backend: Box<Backend>,
    },
}

impl GraphCommand {
    /// Runs the command.
    pub async fn run(self) -> Result {
        match self.action {
            GraphAction::Check { files, mcp } => {
                let mcp = mcp.start().await?;
                let registry = mcp.iter().fold(Registry::new(), |registry, mcp| registry.mcp(mcp.clone()));
                let result = check(&files, &registry);
                if let Some(mcp) = mcp {
                    mcp.close().await;
                }
                result
            }
            GraphAction::Draw { file, depth } => draw(&file, depth),
            GraphAction::List { json, all, backend } => list(&backend, json, all).await,
        }
    }
}

/// The named documents, together with the other documents of their folders.
struct Loaded {
    named: Vec<String>,
    set: DocumentSet,
    problems: Vec<Problem>,
}

fn load(paths: &[PathBuf], registry: &Registry) -> Result<Loaded> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut folders: BTreeMap<PathBuf, ()> = BTreeMap::new();
    let add = |texts: &mut Vec<(String, String)>, path: &Path| -> Result<()> {
        let name = path.display().to_string();
        if !texts.iter().any(|(known, _)| *known == name) {
            texts.push((name, read(path)?));
        }
        Ok(())
    };
    for path in paths {
        if path.is_dir() {
            documents(path)?.iter().try_for_each(|file| add(&mut texts, file))?;
        } else {
            add(&mut texts, path)?;
            folders.insert(path.parent().unwrap_or(Path::new("")).to_owned(), ());
        }
    }
    let named: Vec<String> = texts.iter().map(|(name, _)| name.clone()).collect();
    for folder in folders.into_keys() {
        // Other documents are needed only as subgraphs. One that cannot be read is reported if a document refers to it.
        for file in documents(&folder).unwrap_or_default() {
            let _ = add(&mut texts, &file);
        }
    }
    let (set, problems) = DocumentSet::read(texts, registry);
    Ok(Loaded { named, set, problems })
}

impl Loaded {
    fn is_named(&self, file: &str) -> bool {
        self.named.iter().any(|named| named == file)
    }

    fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| self.is_named(&problem.file))
    }

    fn documents(&self) -> impl Iterator<Item = &Document> {
        self.set.iter().filter(|document| self.is_named(document.file()))
    }
}

/// Reads a file.
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let failure = Failure::usage(format!("{}: {error}", path.display()));
        if path.extension().is_none() { failure.hint("list graphs with: runloom graph list") } else { failure }
    })
}

/// The paths of a folder's documents, sorted by name.
fn documents(folder: &Path) -> Result<Vec<PathBuf>> {
    let at = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", at.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(at).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let file = folder.join(&name);
        let is_document = file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if is_document && !name.to_string_lossy().starts_with('.') && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The paths and the texts of a folder's documents, sorted by name.
pub fn texts(folder: &Path) -> Result<Vec<(String, String)>> {
    documents(folder)?.iter().map(|file| Ok((file.display().to_string(), read(file)?))).collect()
}

fn check(paths: &[PathBuf], registry: &Registry) -> Result {
    let loaded = load(paths, registry)?;
    let mut out = anstream::stdout().lock();
    if loaded.named.is_empty() {
        return Err(Failure::usage("no documents found: no .yaml, .yml or .json file"));
    }
    for document in loaded.documents() {
        for warning in document.warnings() {
            writeln!(out, "{warning} {ASK}(warning){ASK:#}")?;
        }
        let nodes = document.graph().node_names().count();
        let facts = format!("graph {}, {nodes} nodes, revision {}", document.name(), document.revision());
        writeln!(out, "{}: {GOOD}ok{GOOD:#} {DIM}({facts}){DIM:#}", document.file())?;
    }
    let mut errors = 0;
    for problem in loaded.problems() {
        writeln!(out, "{problem}")?;
        errors += 1;
    }
    if errors == 0 {
        return Ok(Exit::Ok);
    }
    writeln!(out, "{BAD}{}{BAD:#}", crate::style::count(errors, "error"))?;
    Ok(Exit::Failed)
}

fn draw(path: &Path, depth: usize) -> Result {
    let mermaid = if path.is_file() {
        let loaded = load(&[path.to_owned()], &Registry::new())?;
        let Some(document) = loaded.documents().next() else {
            return Err(invalid(loaded.problems()));
        };
        document.graph().draw(depth).mermaid()
    } else {
        let name = path.display().to_string();
        let (set, _) = DocumentSet::read(examples::texts(), &Registry::new());
        match set.get(&name) {
            Some(document) => document.graph().draw(depth).mermaid(),
            None => return Err(Failure::usage(format!("no file and no example is named `{name}`"))),
        }
    };
    write!(anstream::stdout().lock(), "{mermaid}")?;
    Ok(Exit::Ok)
}

/// The failure for a document that cannot be loaded.
fn invalid<'a>(problems: impl Iterator<Item = &'a Problem>) -> Failure {
    let lines: Vec<String> = problems.map(ToString::to_string).collect();
    Failure::failed(format!("the document cannot be loaded\n{}", lines.join("\n")))
}

async fn list(backend: &Backend, json: bool, all: bool) -> Result {
    let connection = backend.open().await?;
    let mut graphs: Vec<Graph> = Vec::new();
    let mut request = ListGraphsRequest { include_hidden: all, page_size: 1000, ..Default::default() };
    let read = loop {
        match connection.client.list_graphs(request.clone()).await {
            Ok(page) => {
                graphs.extend(page.graphs);
                request.page_token = page.next_page_token;
            }
            Err(error) => break Err(error),
        }
        if request.page_token.is_empty() {
            break Ok(());
        }
    };
    connection.close().await;
    read?;
    let mut table = Table::new(["GRAPH", "DESCRIPTION", "SOURCE", "REVISION"]);
    for graph in &graphs {
        if json {
            table::json(&to_json("Graph", graph))?;
        } else {
            let source = match graph.source() {
                GraphSource::Unspecified => "",
                GraphSource::Folder => "folder",
                GraphSource::Program => "program",
                GraphSource::Registered => "registered",
            };
            table.row([
                graph.name.clone(),
                if Screen::is_terminal() { brief(&graph.description, 70) } else { graph.description.clone() },
                source.to_owned(),
                graph.revision.chars().take(12).collect(),
            ]);
        }
    }
    if !json {
        table.print("no graphs")?;
    }
    Ok(Exit::Ok)
}
