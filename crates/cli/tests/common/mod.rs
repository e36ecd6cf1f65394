//! Runs the binary as a shell does.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The command, without the variables of this environment that it would read.
pub fn runloom(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runloom"));
    for (name, _) in std::env::vars() {
        if name.starts_with("RUNLOOM_") || name == "RUST_LOG" || name.starts_with("CLICOLOR") {
            command.env_remove(name);
        }
    }
    // Tests run in parallel: one that needs the HTTP API names a port.
    command.args(args).env("RUNLOOM_HTTP", "off").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(args: &[&str]) -> Ended {
    ended(runloom(args))
}

/// The same with something on its standard input.
pub fn run_with(args: &[&str], input: &str) -> Ended {
    let mut command = runloom(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    of(child.wait_with_output().unwrap())
}

pub fn ended(mut command: Command) -> Ended {
    of(command.output().unwrap())
}

fn of(output: std::process::Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "a pipe has no colours: {ended:?}");
    ended
}

/// A folder of documents.
pub fn folder(documents: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in documents {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server that is stopped with the test.
pub struct Server {
    pub address: String,
    pub banner: String,
    child: Child,
    log: Receiver<String>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    /// The same, with variables of the environment.
    pub fn start_in(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = runloom(&["serve"]);
        let default = if args.contains(&"--grpc") { &[][..] } else { &["--grpc", "127.0.0.1:0"] };
        let command = command.args(default).args(args).envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, log) = channel();
        let err = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("Ctrl-C drains") {
            assert!(out.read_line(&mut banner).unwrap() > 0, "{banner}{:?}", log.iter().collect::<Vec<_>>());
        }
        let first = banner.lines().next().unwrap();
        let address = first.rsplit(' ').next().unwrap().to_owned();
        Self { address, banner, child, log }
    }

    /// Waits for a line of the log.
    pub fn logs(&self, what: &str) -> String {
        let (end, mut seen) = (Instant::now() + Duration::from_secs(20), Vec::new());
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(what) {
                return line;
            }
            seen.push(line);
        }
        panic!("the log has no line with `{what}`: {seen:#?}");
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<i32> {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, as a shell does.
#[cfg(unix)]
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end of a child, for a while.
pub fn wait(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not end");
}

/// Reads until a text has been read.
pub fn read_until(from: &mut impl Read, what: &str) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&text).contains(what) {
        assert!(from.read(&mut byte).unwrap() > 0, "ended before `{what}`: {}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}
