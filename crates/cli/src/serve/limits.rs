//! Limits that an operator can set: of runs, of stored data, of requests and of connections.

use std::time::Duration;

use clap::Args;
use runloom_core::CoreOptions;
use runloom_service::Options;

use crate::options::{DurationOrOff, bytes, duration, nonzero_duration};

/// The options for limits.
#[derive(Args, Clone, Debug)]
pub(super) struct Limits {
    /// Maximum number of supersteps of a run, unless the run sets a limit
    #[arg(long, env = "RUNLOOM_RECURSION_LIMIT", value_name = "N", default_value_t = runloom_engine::DEFAULT_RECURSION_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    recursion_limit: u32,
    /// Maximum number of tasks of one step of a graph, Sends included. A run that needs more fails
    #[arg(long, env = "RUNLOOM_MAX_STEP_TASKS", value_name = "N", default_value_t = runloom_engine::Limits::default().step_tasks, value_parser = clap::value_parser!(u64).range(1..))]
    max_step_tasks: u64,
    /// Maximum size of a graph's state, in bytes of JSON (approximate): 64MiB, 2GiB. A run that needs more fails
    #[arg(long, env = "RUNLOOM_MAX_STATE", value_name = "SIZE", default_value = "512MiB", value_parser = bytes)]
    max_state: usize,
    /// Maximum duration of a run, unless the run sets a timeout: 10m. Default: no limit
    #[arg(long, env = "RUNLOOM_RUN_TIMEOUT", value_name = "TIME", value_parser = duration)]
    run_timeout: Option<Duration>,
    /// Maximum number of active runs; more of them wait
    #[arg(long, env = "RUNLOOM_MAX_RUNNING", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_running: u32,
    /// Maximum number of attempts of a run whose server stops, including the first
    #[arg(long, env = "RUNLOOM_MAX_ATTEMPTS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    /// Duration of the lease of this server. If it does not renew the lease in that time, other servers of the same store
    /// recover its runs
    #[arg(long, env = "RUNLOOM_LEASE_TTL", value_name = "TIME", default_value = "10s", value_parser = nonzero_duration)]
    lease_ttl: Duration,
    /// How long to store the log of a run after its end: 7d. Older streams cannot be rejoined. Default: as long as the thread
    #[arg(long, env = "RUNLOOM_LOG_TTL", value_name = "TIME", value_parser = nonzero_duration)]
    log_ttl: Option<Duration>,
    /// How long to store a stateless run after its end, with its thread and log
    #[arg(long, env = "RUNLOOM_STATELESS_TTL", value_name = "TIME", default_value = "5m", value_parser = nonzero_duration)]
    stateless_ttl: Duration,
    /// Maximum size of the JSON of one input, context or state update: 500KB, 16MiB
    #[arg(long, env = "RUNLOOM_MAX_INPUT", value_name = "SIZE", default_value = "16MiB", value_parser = bytes)]
    max_input: usize,
    /// Maximum number of open connections on each of the two ports; new ones wait for one to close
    #[arg(long, env = "RUNLOOM_MAX_CONNECTIONS", value_name = "N", default_value_t = 20_000, value_parser = positive)]
    max_connections: usize,
    /// Maximum number of open connections from one IP address on each port; more are refused
    #[arg(long, env = "RUNLOOM_MAX_CONNECTIONS_PER_PEER", value_name = "N", default_value_t = 10_000, value_parser = positive)]
    max_connections_per_peer: usize,
    /// Maximum number of open streams on a gRPC connection, including calls that wait for a run
    #[arg(long, env = "RUNLOOM_MAX_STREAMS", value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,
    /// Maximum number of HTTP streams that are compressed at the same time, for clients that accept gzip; 0 for none
    #[arg(long, env = "RUNLOOM_COMPRESSED_STREAMS", value_name = "N", default_value_t = 256)]
    pub compressed_streams: usize,
    /// Age at which clients are asked to open a new connection (gRPC, HTTP), so that load spreads over new servers: 30m.
    /// Default: no limit
    #[arg(long, env = "RUNLOOM_MAX_CONNECTION_AGE", value_name = "TIME", value_parser = nonzero_duration)]
    max_connection_age: Option<Duration>,
    /// How long streams continue after that age before they end and must be rejoined
    #[arg(long, env = "RUNLOOM_MAX_CONNECTION_AGE_GRACE", value_name = "TIME", default_value = "30s", value_parser = duration)]
    max_connection_age_grace: Duration,
    /// Interval of keepalive pings on a silent HTTP/2 connection, or `off`
    #[arg(long, env = "RUNLOOM_KEEPALIVE", value_name = "TIME", default_value = "30s", value_parser = DurationOrOff::parse)]
    keepalive: DurationOrOff,
    /// Time to wait for the answer to a keepalive ping before the connection is closed
    #[arg(long, env = "RUNLOOM_KEEPALIVE_TIMEOUT", value_name = "TIME", default_value = "20s", value_parser = nonzero_duration)]
    keepalive_timeout: Duration,
}

/// A number from 1 on.
fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number from 1 on".to_owned())
}

impl Limits {
    /// Applies the limits of the core.
    pub fn set(&self, core: &mut CoreOptions) {
        core.recursion_limit = self.recursion_limit;
        core.run_limits =
            runloom_engine::Limits { step_tasks: self.max_step_tasks, state_bytes: self.max_state as u64 };
        core.run_timeout = self.run_timeout;
        core.max_running = self.max_running as usize;
        core.max_attempts = self.max_attempts;
        core.lease_ttl = self.lease_ttl;
        core.log_ttl = self.log_ttl;
        core.stateless_ttl = self.stateless_ttl;
        core.max_json_bytes = self.max_input;
    }

    /// The limits of the gRPC server.
    pub fn server(&self) -> Options {
        let default = Options::default();
        Options {
            max_request_bytes: default.max_request_bytes.max(self.request_bytes()),
            connections: runloom_net::Options {
                max_streams_per_connection: self.max_streams,
                ..self.http_connections()
            },
            ..default
        }
    }

    /// Those of connections that both APIs have.
    pub fn http_connections(&self) -> runloom_net::Options {
        runloom_net::Options {
            max_connections: self.max_connections,
            max_connections_per_peer: self.max_connections_per_peer,
            keepalive_interval: self.keepalive.0,
            keepalive_timeout: self.keepalive_timeout,
            max_connection_age: self.max_connection_age,
            max_connection_age_grace: self.max_connection_age_grace,
            ..runloom_net::Options::default()
        }
    }

    /// The maximum size of a request: twice the maximum input, so that there is room for other fields.
    pub fn request_bytes(&self) -> usize {
        self.max_input.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use runloom_store_memory::MemoryStore;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let limits = Line::parse_from(["serve"]).limits;
        assert_eq!(format!("{:?}", limits.server()), format!("{:?}", Options::default()));
        let core = CoreOptions::new(Arc::new(MemoryStore::new()));
        let mut set = CoreOptions::new(Arc::new(MemoryStore::new()));
        limits.set(&mut set);
        let values = |o: &CoreOptions| {
            let limits = (o.recursion_limit, o.run_limits, o.run_timeout, o.max_running, o.max_attempts);
            (limits, o.log_ttl, o.stateless_ttl, o.max_json_bytes, o.lease_ttl)
        };
        assert_eq!(values(&core), values(&set));
    }

    #[test]
    fn the_request_limit_follows_the_input_limit() {
        let limits = Line::parse_from(["serve", "--max-input", "64MiB"]).limits;
        assert_eq!(limits.server().max_request_bytes, 128 << 20);
    }
}
