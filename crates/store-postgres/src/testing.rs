//! A Postgres for tests: a server of its own in a temporary folder, on a free port of this machine.
//!
//! `RUNLOOM_POSTGRES` is the folder of its programs (`initdb`, `postgres`), which `./test` sets; `RUNLOOM_PGBOUNCER` is the
//! program PgBouncer. Without the first there is no server, and tests say that they are skipped. The server ends with the
//! process that started it, however that ends.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, postgres::PgConnection};
use tempfile::TempDir;

use crate::sql::safe;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// The user `nobody`: neither program runs as root.
const NOBODY: u32 = 65534;

/// A server of Postgres.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    pub port: u16,
    process: parking_lot::Mutex<Option<Keeper>>,
    databases: AtomicU32,
}

/// A process that ends with this one: a shell waits for the end of its input, then kills it.
struct Keeper {
    shell: Child,
    input: Option<ChildStdin>,
    process: u32,
}

/// The server of this process, started with the first call; none where `RUNLOOM_POSTGRES` is not set.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::start_if_there).as_ref()
}

/// A free port.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether this process may become another user, and so must.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

/// A folder that the user of the server owns.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("runloom-pg-").tempdir().unwrap();
    if is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

impl Keeper {
    /// Starts a program that is killed, with its children, when this process ends.
    fn start(signal: &str, program: &Path, arguments: &[String], log: &Path) -> Self {
        let script = r#"signal=$1; log=$2; shift 2; "$@" >>"$log" 2>&1 </dev/null & echo $!; exec >/dev/null 2>&1; cat; kill -$signal $!; wait"#;
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(signal).arg(log).arg(program).args(arguments);
        let mut shell =
            as_nobody(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut said = String::new();
        shell.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        Self { input: shell.stdin.take(), process: said.trim().parse().unwrap(), shell }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

impl Server {
    fn start_if_there() -> Option<Self> {
        let programs = PathBuf::from(std::env::var_os("RUNLOOM_POSTGRES")?);
        Some(Self::start(&programs))
    }

    /// Makes a database cluster and starts its server.
    pub fn start(programs: &Path) -> Self {
        let server = Self {
            folder: folder(),
            programs: programs.to_owned(),
            port: free_port(),
            process: parking_lot::Mutex::new(None),
            databases: AtomicU32::new(0),
        };
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args(["--username", "owner", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"]);
        initdb.arg("--pgdata").arg(server.data()).current_dir("/");
        let made = as_nobody(&mut initdb).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Everyone is let in, but for a role whose password is checked.
        let hba = server.data().join("pg_hba.conf");
        let rules = "host all locked 127.0.0.1/32 scram-sha-256\n".to_owned() + &fs::read_to_string(&hba).unwrap();
        fs::write(&hba, rules).unwrap();
        server.run();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts the server, and waits until it takes connections.
    pub fn run(&self) {
        let setting = |text: &str| ["-c".to_owned(), text.to_owned()];
        let mut arguments =
            vec!["-D".to_owned(), self.data().display().to_string(), "-p".into(), self.port.to_string()];
        for text in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            "shared_buffers=64MB",
            // The tests kill the server, not the machine: the system keeps what was written.
            "fsync=off",
        ] {
            arguments.extend(setting(text));
        }
        *self.process.lock() = Some(Keeper::start("QUIT", &self.programs.join("postgres"), &arguments, &self.log()));
        wait_for(self.port, &self.log());
    }

    /// Kills the server as by a crash of the machine's power, but for what the system has buffered; it recovers at the next
    /// start.
    pub fn kill(&self) {
        self.signal("QUIT");
        *self.process.lock() = None;
    }

    /// Sends a signal to the server's first process.
    pub fn signal(&self, signal: &str) {
        if let Some(keeper) = &*self.process.lock() {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(keeper.process.to_string()).status();
        }
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://owner@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, and returns its name.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        name
    }

    /// Runs SQL.
    pub async fn execute(&self, database: &str, sql: &str) {
        let mut conn = PgConnection::connect(&self.url(database)).await.unwrap();
        conn.execute(sqlx::raw_sql(safe(sql.to_owned()))).await.unwrap();
        let _ = conn.close().await;
    }
}

/// Waits until a port takes connections of Postgres: a listener alone is there before the server is ready.
fn wait_for(port: u16, log: &Path) {
    let begun = Instant::now();
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        let is_ready =
            said.rsplit("starting PostgreSQL").next().is_some_and(|last| last.contains("ready to accept connections"));
        if is_ready && std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return;
        }
        assert!(begun.elapsed() < START, "the server does not start: {said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// PgBouncer in transaction mode, in front of a server.
pub struct Pooler {
    pub port: u16,
    _folder: TempDir,
    _process: Keeper,
}

impl Pooler {
    /// Starts it; none where `RUNLOOM_PGBOUNCER` is not set.
    pub fn start_if_there(server: &Server) -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("RUNLOOM_PGBOUNCER")?);
        let (folder, port) = (folder(), free_port());
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=owner\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
             unix_socket_dir=\nauth_type=any\npool_mode=transaction\nmax_client_conn=2000\ndefault_pool_size=8\n",
            server.port
        );
        fs::write(&settings, text).unwrap();
        let log = folder.path().join("log");
        let process = Keeper::start("TERM", &program, &[settings.display().to_string()], &log);
        let begun = Instant::now();
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(begun.elapsed() < START, "PgBouncer does not start: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { port, _folder: folder, _process: process })
    }

    /// The URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://owner@127.0.0.1:{}/{database}", self.port)
    }
}
