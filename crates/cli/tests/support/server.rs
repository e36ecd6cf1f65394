//! A server as its own process, for tests that hold or kill it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running `runloom serve`.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts one on a folder with `graphs` and `data`, and waits until it says where it listens.
    pub fn start(folder: &Path, port: u16, environment: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runloom"))
            .args(["serve", "--grpc", &format!("127.0.0.1:{port}"), "--graphs"])
            .arg(folder.join("graphs"))
            .arg("--data")
            .arg(folder.join("data"))
            .env("RUNLOOM_HTTP", "off")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("the server ended").unwrap();
            if line.contains(&port.to_string()) {
                break;
            }
        }
        // Nobody reads the rest: let it drain.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has it drain and end.
    pub fn stop(&mut self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with these graph documents.
pub fn folder(documents: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("graphs")).unwrap();
    for (name, text) in documents {
        std::fs::write(folder.path().join("graphs").join(name), text).unwrap();
    }
    folder
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
