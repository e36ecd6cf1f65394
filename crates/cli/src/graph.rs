//! `runloom graph`: documents checked and drawn, and the graphs that there are.

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
    examples,
    exit::{self, Exit},
    failure::{Failure, Result},
    outside::Mcp,
    place::Place,
    screen::Screen,
    style::{ASK, BAD, DIM, GOOD, brief},
    table::{self, Table},
    wire::to_json,
};

const EXAMPLES: &str = "\
Examples:
  runloom graph check graphs/*.yaml          every fault, as file:line:column, and exit code 1
  runloom graph check graphs                 all documents of a folder
  runloom graph draw graphs/agent.yaml       a Mermaid flowchart
  runloom graph draw joke > joke.mmd         of an example
  runloom graph list                         the examples that are built in
  runloom graph list --addr 127.0.0.1:50051  what a server serves

Graphs that a document runs inside are looked for in the other documents of its folder.";

/// Check and draw graph documents, and list graphs
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct GraphCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Say what is wrong with documents, all of it
    #[command(after_help = "Example: runloom graph check graphs")]
    Check {
        /// Documents, or folders of them
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
        /// How many levels of subgraphs to draw instead of their nodes
        #[arg(long, value_name = "N", default_value_t = 0)]
        depth: usize,
    },
    /// The graphs of a server, or those that `runloom run` has
    #[command(after_help = "Example: runloom graph list --addr 127.0.0.1:50051 --json")]
    List {
        /// A line of JSON each
        #[arg(long)]
        json: bool,
        /// The hidden ones too, which run inside others only
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
}

impl GraphCommand {
    /// Runs it.
    pub async fn run(self) -> Result {
        match self.what {
            What::Check { files, mcp } => {
                let mcp = mcp.start().await?;
                let registry = mcp.iter().fold(Registry::new(), |registry, mcp| registry.mcp(mcp.clone()));
                let result = check(&files, &registry);
                if let Some(mcp) = mcp {
                    mcp.close().await;
                }
                result
            }
            What::Draw { file, depth } => draw(&file, depth),
            What::List { json, all, place } => list(&place, json, all).await,
        }
    }
}

/// Documents that were asked for, with the others of their folders beside them.
struct Loaded {
    asked: Vec<String>,
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
    let asked: Vec<String> = texts.iter().map(|(name, _)| name.clone()).collect();
    for folder in folders.into_keys() {
        // Neighbours are there to be referred to; one that cannot be read is missed only then.
        for file in documents(&folder).unwrap_or_default() {
            let _ = add(&mut texts, &file);
        }
    }
    let (set, problems) = DocumentSet::read(texts, registry);
    Ok(Loaded { asked, set, problems })
}

impl Loaded {
    fn is_asked(&self, file: &str) -> bool {
        self.asked.iter().any(|asked| asked == file)
    }

    fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| self.is_asked(&problem.file))
    }

    fn documents(&self) -> impl Iterator<Item = &Document> {
        self.set.iter().filter(|document| self.is_asked(document.file()))
    }
}

/// The text of a file.
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let failure = Failure::usage(format!("{}: {error}", path.display()));
        if path.extension().is_none() {
            failure.hint("runloom graph list shows the graphs that there are")
        } else {
            failure
        }
    })
}

/// The documents of a folder, by name.
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

/// The documents of a folder, by name, and their texts.
pub fn texts(folder: &Path) -> Result<Vec<(String, String)>> {
    documents(folder)?.iter().map(|file| Ok((file.display().to_string(), read(file)?))).collect()
}

fn check(paths: &[PathBuf], registry: &Registry) -> Result {
    let loaded = load(paths, registry)?;
    let mut out = anstream::stdout().lock();
    if loaded.asked.is_empty() {
        return Err(Failure::usage("there is no document there: no .yaml, .yml or .json file"));
    }
    for document in loaded.documents() {
        for warning in document.warnings() {
            writeln!(out, "{warning} {ASK}(warning){ASK:#}")?;
        }
        let nodes = document.graph().node_names().count();
        let facts = format!("graph {}, {nodes} nodes, revision {}", document.name(), document.revision());
        writeln!(out, "{}: {GOOD}ok{GOOD:#} {DIM}({facts}){DIM:#}", document.file())?;
    }
    let mut faults = 0;
    for problem in loaded.problems() {
        writeln!(out, "{problem}")?;
        faults += 1;
    }
    if faults == 0 {
        return Ok(Exit::Ok);
    }
    writeln!(out, "{BAD}{}{BAD:#}", crate::style::count(faults, "fault"))?;
    Ok(Exit::Failed)
}

fn draw(path: &Path, depth: usize) -> Result {
    let mermaid = if path.is_file() {
        let loaded = load(&[path.to_owned()], &Registry::new())?;
        let Some(document) = loaded.documents().next() else {
            return Err(faulty(loaded.problems()));
        };
        document.graph().draw(depth).mermaid()
    } else {
        let name = path.display().to_string();
        let (set, _) = DocumentSet::read(examples::texts(), &Registry::new());
        match set.get(&name) {
            Some(document) => document.graph().draw(depth).mermaid(),
            None => return Err(Failure::usage(format!("there is no file `{name}`, and no example of that name"))),
        }
    };
    write!(anstream::stdout().lock(), "{mermaid}")?;
    Ok(Exit::Ok)
}

/// Documents that cannot be loaded.
fn faulty<'a>(problems: impl Iterator<Item = &'a Problem>) -> Failure {
    let lines: Vec<String> = problems.map(ToString::to_string).collect();
    Failure::failed(format!("the document cannot be loaded\n{}", lines.join("\n")))
}

async fn list(place: &Place, json: bool, all: bool) -> Result {
    let session = place.open().await?;
    let mut graphs: Vec<Graph> = Vec::new();
    let mut request = ListGraphsRequest { include_hidden: all, page_size: 1000, ..Default::default() };
    let read = loop {
        match session.client.list_graphs(request.clone()).await {
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
    session.close().await;
    read?;
    let mut table = Table::new(["GRAPH", "WHAT FOR", "FROM", "REVISION"]);
    for graph in &graphs {
        if json {
            table::json(&to_json("Graph", graph))?;
        } else {
            let from = match graph.source() {
                GraphSource::Unspecified => "",
                GraphSource::Folder => "folder",
                GraphSource::Program => "program",
                GraphSource::Registered => "registered",
            };
            table.row([
                graph.name.clone(),
                if Screen::is_terminal() { brief(&graph.description, 70) } else { graph.description.clone() },
                from.to_owned(),
                graph.revision.chars().take(12).collect(),
            ]);
        }
    }
    if !json {
        table.print("no graphs")?;
    }
    Ok(Exit::Ok)
}
