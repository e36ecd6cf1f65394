//! `runloom store`: checks, migrates, exports and backs up a store.

mod options;

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::Instant,
};

use clap::{Args, Subcommand};
use runloom_store::{Health, Store, dump};
use runloom_store_postgres::PostgresStore;
use runloom_store_sqlite::SqliteStore;

pub use options::{StoreOptions, store_failure};

use crate::{
    exit::{self, Exit},
    failure::{Failure, Result},
};

const EXAMPLES: &str = "\
Examples:
  runloom store check --store postgres://db/runloom              version, connection, latency
  runloom store migrate --store postgres://db/runloom --dry-run  the SQL that a start would run
  runloom store backup --data ./data --to backup.db              a copy, while it is served
  runloom store export --data ./data | runloom store import --store postgres://db/runloom
                                                                 move from SQLite to Postgres";

/// Check, migrate, move and back up a store
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(Check),
    Migrate(Migrate),
    Backup(Backup),
    Export(Export),
    Import(Import),
}

/// Check that a store can be opened and written, and that its schema is known
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  runloom store check --store postgres://host/runloom\n\n{}", exit::HELP))]
struct Check {
    #[command(flatten)]
    store: StoreOptions,
}

/// Bring the schema of a store to the newest version, as the start of a server does
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  runloom store migrate --store postgres://host/runloom --dry-run\n\n{}", exit::HELP))]
struct Migrate {
    #[command(flatten)]
    store: StoreOptions,
    /// Print the SQL, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Copy a data folder to one file, also while a server has it open
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  runloom store backup --data ./data --to backup.db\n\nTo restore it: stop the server, \
    and put the file into an empty data folder as runloom.db.\n\n{}", exit::HELP))]
struct Backup {
    #[command(flatten)]
    store: StoreOptions,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Write everything in a store to standard output, as lines of JSON
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  runloom store export --data ./data > export.jsonl\n\nThe lines hold everything, \
    the hashes of API keys included. Cached results of nodes\nare left out. Runs that are active continue where the export \
    is imported: stop the\nservers first.\n\n{}", exit::HELP))]
struct Export {
    #[command(flatten)]
    store: StoreOptions,
}

/// Read lines that `runloom store export` has written from standard input into an empty database
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  runloom store import --store postgres://host/runloom < export.jsonl\n\n{}", exit::HELP))]
struct Import {
    #[command(flatten)]
    store: StoreOptions,
}

impl StoreCommand {
    /// Runs the command.
    pub async fn run(self) -> Result {
        match self.command {
            Command::Check(check) => check.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Export(export) => export.run().await,
            Command::Import(import) => import.run().await,
        }
    }
}

fn no_folder() -> Failure {
    Failure::usage("this command needs a data folder or a database: --data DIR or --store URL")
}

impl Check {
    async fn run(self) -> Result {
        let mut out = anstream::stdout().lock();
        if let Some(options) = self.store.postgres() {
            let schema = PostgresStore::schema(&options.url).await.map_err(store_failure)?;
            match schema.found {
                0 => writeln!(out, "schema   none yet; this program creates version {}", schema.known)?,
                found => writeln!(out, "schema   version {found}; this program knows {}", schema.known)?,
            }
            if schema.is_too_new() {
                return Err(Failure::failed("the schema is newer than this program; use a newer program"));
            }
            if schema.is_old() {
                writeln!(out, "         a start migrates it; see: runloom store migrate --dry-run")?;
                return Ok(Exit::Ok);
            }
            let store = PostgresStore::open(options).await.map_err(store_failure)?;
            let begun = Instant::now();
            store.ping().await.map_err(store_failure)?;
            writeln!(out, "database {}", store.name().trim_start_matches("database "))?;
            writeln!(out, "write    {:?}", begun.elapsed())?;
            let health = store.health().borrow().clone();
            let _ = store.close().await;
            if let Health::Failing(reason) = health {
                return Err(Failure::failed(format!("the database does not serve: {reason}")));
            }
            writeln!(out, "ok")?;
            return Ok(Exit::Ok);
        }
        let folder = self.store.folder().ok_or_else(no_folder)?.to_owned();
        let checked = blocking(move || runloom_store_sqlite::check(&folder)).await?;
        writeln!(out, "schema   version {}; this program knows {}", checked.version, checked.known)?;
        writeln!(out, "file     {} bytes, {} of them free", checked.bytes, checked.free_bytes)?;
        if checked.faults.is_empty() {
            writeln!(out, "ok")?;
            return Ok(Exit::Ok);
        }
        Err(Failure::failed(format!("the file is damaged: {}", checked.faults.join("; ")))
            .hint("stop the server, and restore a backup"))
    }
}

impl Migrate {
    async fn run(self) -> Result {
        let mut out = anstream::stdout().lock();
        let Some(options) = self.store.postgres() else {
            let folder = self.store.folder().ok_or_else(no_folder)?.to_owned();
            if self.dry_run {
                let checked = blocking(move || runloom_store_sqlite::check(&folder)).await?;
                writeln!(out, "-- version {} of the file, version {} of this program", checked.version, checked.known)?;
                return Ok(Exit::Ok);
            }
            let opened = blocking(move || SqliteStore::open(runloom_store_sqlite::OpenOptions::new(folder))).await?;
            opened.close().await.map_err(store_failure)?;
            writeln!(out, "migrated")?;
            return Ok(Exit::Ok);
        };
        let schema = PostgresStore::schema(&options.url).await.map_err(store_failure)?;
        if schema.is_too_new() {
            return Err(Failure::failed(format!(
                "the schema has version {}, and this program knows {}; use a newer program",
                schema.found, schema.known
            )));
        }
        if !self.dry_run {
            let store = PostgresStore::open(options).await.map_err(store_failure)?;
            let _ = store.close().await;
            writeln!(out, "from version {} to version {}", schema.found, schema.known.max(schema.found))?;
            return Ok(Exit::Ok);
        }
        for (version, sql) in schema.pending() {
            writeln!(out, "-- to version {version}\n{sql}")?;
        }
        if !schema.is_old() {
            writeln!(out, "-- nothing to do: the schema has version {}", schema.found)?;
        }
        Ok(Exit::Ok)
    }
}

impl Backup {
    async fn run(self) -> Result {
        let Some(folder) = self.store.folder().map(ToOwned::to_owned) else {
            return Err(Failure::usage("only a data folder is backed up so")
                .hint("back a database up with its own tools: pg_dump, or continuous archiving"));
        };
        let to = self.to.clone();
        blocking(move || runloom_store_sqlite::backup(&folder, &to)).await?;
        let bytes = std::fs::metadata(&self.to)?.len();
        writeln!(anstream::stdout().lock(), "{}: {bytes} bytes", self.to.display())?;
        Ok(Exit::Ok)
    }
}

impl Export {
    async fn run(self) -> Result {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        writeln!(out, "{}", dump::header())?;
        // A closed pipe ends the export.
        let mut failed = None;
        let mut give = |row: dump::Row| {
            writeln!(out, "{}", row.to_line()).map_err(|error| {
                let told = runloom_store::Error::Unavailable(error.to_string());
                failed = Some(error);
                told
            })
        };
        let exported = match (self.store.postgres(), self.store.folder()) {
            (Some(options), _) => PostgresStore::export(&options.url, give).await,
            (None, Some(folder)) => runloom_store_sqlite::export(folder, &mut give),
            (None, None) => return Err(no_folder()),
        };
        match failed {
            Some(error) => return Err(error.into()),
            None => exported.map_err(store_failure)?,
        }
        out.flush()?;
        Ok(Exit::Ok)
    }
}

impl Import {
    async fn run(self) -> Result {
        let Some(options) = self.store.postgres() else {
            return Err(Failure::usage("an export is imported into a database: --store URL")
                .hint("to move a data folder, copy it, or use: runloom store backup"));
        };
        let mut lines = std::io::BufReader::new(std::io::stdin()).lines();
        let unreadable = |error: std::io::Error| runloom_store::Error::Invalid(error.to_string());
        let header = lines.next().transpose()?.unwrap_or_default();
        dump::check_header(&header).map_err(store_failure)?;
        let mut rows = lines.map(|line| dump::Row::parse(&line.map_err(unreadable)?));
        let count = PostgresStore::import(&options.url, &mut rows).await.map_err(store_failure)?;
        writeln!(anstream::stdout().lock(), "{count} rows")?;
        Ok(Exit::Ok)
    }
}

/// Runs something that waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> runloom_store::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(store_failure),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
