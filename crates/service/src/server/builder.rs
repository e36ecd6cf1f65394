//! What a server is made of, before it starts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use runloom_core::{Core, CoreOptions};
use runloom_engine::Graph;
use runloom_store::Store;
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};

use super::{Error, Options, Server};

/// What documents of graphs are called.
const DOCUMENTS: [&str; 3] = ["yaml", "yml", "json"];

/// What a server is made of. [`Server::builder`] makes one that keeps everything in memory and has no graphs.
///
/// ```no_run
/// # async fn example(graph: runloom_engine::Graph) -> Result<(), runloom_service::Error> {
/// use runloom_service::{Server, listen};
///
/// let server = Server::builder().graph("agent", graph).data("./data").start().await?;
/// server.serve(listen("127.0.0.1:50051").await?, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Builder {
    graphs: Vec<(String, Graph)>,
    documents: Vec<(String, String)>,
    folders: Vec<PathBuf>,
    place: Place,
    settings: Vec<Setting>,
    options: Options,
}

/// Sets something of the core.
type Setting = Box<dyn FnOnce(&mut CoreOptions) + Send>;

/// Where everything is kept.
#[derive(Default)]
enum Place {
    #[default]
    Memory,
    Folder(PathBuf),
    Store(Arc<dyn Store>),
}

impl Builder {
    /// A graph of the program, by the name it is served under.
    #[must_use]
    pub fn graph(mut self, name: impl Into<String>, graph: Graph) -> Self {
        self.graphs.push((name.into(), graph));
        self
    }

    /// A graph document: the name of its file, for messages, and its text.
    #[must_use]
    pub fn document(mut self, file: impl Into<String>, text: impl Into<String>) -> Self {
        self.documents.push((file.into(), text.into()));
        self
    }

    /// The graph documents of a folder: its files that end in `.yaml`, `.yml` or `.json`. Or a single file. Read when the
    /// server starts.
    #[must_use]
    pub fn documents(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Keeps everything in files of this folder, which is made where it is not there.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Place::Folder(folder.into());
        self
    }

    /// Keeps everything in this store.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.place = Place::Store(store);
        self
    }

    /// Sets options of the core: limits of runs, how long things are kept. Graphs and the store are set here, not there.
    #[must_use]
    pub fn core(mut self, set: impl FnOnce(&mut CoreOptions) + Send + 'static) -> Self {
        self.settings.push(Box::new(set));
        self
    }

    /// Sets the options of the server itself.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Opens the store, loads the graphs, and takes up what was under way.
    pub async fn start(self) -> Result<Server, Error> {
        let store: Arc<dyn Store> = match self.place {
            Place::Memory => Arc::new(MemoryStore::default()),
            // Opening a database asks the disk, and may bring its tables up to date.
            Place::Folder(folder) => {
                let open = tokio::task::spawn_blocking(|| SqliteStore::open(OpenOptions::new(folder)));
                Arc::new(open.await.map_err(|error| Error::Stopped(error.to_string()))??)
            }
            Place::Store(store) => store,
        };
        let mut core = CoreOptions::new(store);
        for set in self.settings {
            set(&mut core);
        }
        core.graphs.extend(self.graphs);
        core.documents.extend(self.documents);
        for folder in self.folders {
            core.documents.extend(read_documents(&folder).await?);
        }
        Ok(Server::over(Core::start(core).await?, self.options).await)
    }
}

/// The documents of a folder, by the names of their files in order; or one file's.
async fn read_documents(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Documents { path, source }
    };
    let mut files = Vec::new();
    if tokio::fs::metadata(path).await.map_err(failed(path))?.is_file() {
        files.push(path.to_owned());
    } else {
        let mut entries = tokio::fs::read_dir(path).await.map_err(failed(path))?;
        while let Some(entry) = entries.next_entry().await.map_err(failed(path))? {
            let file = entry.path();
            let is_document = file.extension().and_then(|e| e.to_str()).is_some_and(|e| DOCUMENTS.contains(&e));
            if is_document && tokio::fs::metadata(&file).await.map_err(failed(&file))?.is_file() {
                files.push(file);
            }
        }
        files.sort();
    }
    let mut documents = Vec::with_capacity(files.len());
    for file in files {
        let text = tokio::fs::read_to_string(&file).await.map_err(failed(&file))?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        documents.push((name, text));
    }
    Ok(documents)
}
