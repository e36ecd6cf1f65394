//! What an operator may set of a server's limits: how long things are kept, how large they may be, how long connections live.

use std::time::Duration;

use clap::Args;
use runloom_core::CoreOptions;
use runloom_service::Options;

use crate::options::{Off, bytes, duration, lasting};

/// Limits of runs, of what they leave, and of connections.
#[derive(Args, Clone, Debug)]
pub(super) struct Limits {
    /// How many steps a run may take, where it names no limit itself
    #[arg(long, env = "RUNLOOM_RECURSION_LIMIT", value_name = "N", default_value_t = runloom_engine::DEFAULT_RECURSION_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    recursion_limit: u32,
    /// How long a run may take, where it names no limit itself: 10m. Without it: as long as it wants
    #[arg(long, env = "RUNLOOM_RUN_TIMEOUT", value_name = "TIME", value_parser = duration)]
    run_timeout: Option<Duration>,
    /// How many runs may be under way at once; the others wait
    #[arg(long, env = "RUNLOOM_MAX_RUNNING", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_running: u32,
    /// How often a run is attempted, the first time included, where its server goes down under it
    #[arg(long, env = "RUNLOOM_MAX_ATTEMPTS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    /// How long the log of a run is kept after its end: 7d. Streams older than that cannot be joined again. Without it: as
    /// long as the thread
    #[arg(long, env = "RUNLOOM_LOG_TTL", value_name = "TIME", value_parser = lasting)]
    log_ttl: Option<Duration>,
    /// How long a stateless run is kept after its end, with its thread and log
    #[arg(long, env = "RUNLOOM_STATELESS_TTL", value_name = "TIME", default_value = "5m", value_parser = lasting)]
    stateless_ttl: Duration,
    /// The most JSON in one input, context or state update: 500KB, 16MiB
    #[arg(long, env = "RUNLOOM_MAX_INPUT", value_name = "SIZE", default_value = "16MiB", value_parser = bytes)]
    max_input: usize,
    /// How many streams a gRPC connection may have open, calls that wait for a run included
    #[arg(long, env = "RUNLOOM_MAX_STREAMS", value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,
    /// How many streams over HTTP may be compressed at once, for clients that accept gzip; 0 for none
    #[arg(long, env = "RUNLOOM_COMPRESSED_STREAMS", value_name = "N", default_value_t = 256)]
    pub compressed_streams: usize,
    /// How old a gRPC connection may get before its client is asked to make another, so that load spreads
    /// over servers that came later: 30m. Without it: any age
    #[arg(long, env = "RUNLOOM_MAX_CONNECTION_AGE", value_name = "TIME", value_parser = lasting)]
    max_connection_age: Option<Duration>,
    /// How long streams may go on beyond that age before they are told to join again
    #[arg(long, env = "RUNLOOM_MAX_CONNECTION_AGE_GRACE", value_name = "TIME", default_value = "30s", value_parser = duration)]
    max_connection_age_grace: Duration,
    /// How often a silent gRPC connection is tried, or off
    #[arg(long, env = "RUNLOOM_KEEPALIVE", value_name = "TIME", default_value = "30s", value_parser = Off::read)]
    keepalive: Off,
    /// How long the answer to that may take before the connection counts as broken
    #[arg(long, env = "RUNLOOM_KEEPALIVE_TIMEOUT", value_name = "TIME", default_value = "20s", value_parser = lasting)]
    keepalive_timeout: Duration,
}

impl Limits {
    /// Those of the core.
    pub fn set(&self, core: &mut CoreOptions) {
        core.recursion_limit = self.recursion_limit;
        core.run_timeout = self.run_timeout;
        core.max_running = self.max_running as usize;
        core.max_attempts = self.max_attempts;
        core.log_ttl = self.log_ttl;
        core.stateless_ttl = self.stateless_ttl;
        core.max_json_bytes = self.max_input;
    }

    /// Those of the gRPC server.
    pub fn server(&self) -> Options {
        let default = Options::default();
        Options {
            max_request_bytes: default.max_request_bytes.max(self.request_bytes()),
            max_streams_per_connection: self.max_streams,
            max_connection_age: self.max_connection_age,
            max_connection_age_grace: self.max_connection_age_grace,
            keepalive_interval: self.keepalive.0,
            keepalive_timeout: self.keepalive_timeout,
            ..default
        }
    }

    /// The largest request: there is room around the largest input.
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
    fn what_is_not_set_is_as_in_a_program_of_ones_own() {
        let limits = Line::parse_from(["serve"]).limits;
        assert_eq!(format!("{:?}", limits.server()), format!("{:?}", Options::default()));
        let core = CoreOptions::new(Arc::new(MemoryStore::new()));
        let mut set = CoreOptions::new(Arc::new(MemoryStore::new()));
        limits.set(&mut set);
        let told = |o: &CoreOptions| {
            let limits = (o.recursion_limit, o.run_timeout, o.max_running, o.max_attempts);
            (limits, o.log_ttl, o.stateless_ttl, o.max_json_bytes)
        };
        assert_eq!(told(&core), told(&set));
    }

    #[test]
    fn a_larger_input_has_a_larger_request_around_it() {
        let limits = Line::parse_from(["serve", "--max-input", "64MiB"]).limits;
        assert_eq!(limits.server().max_request_bytes, 128 << 20);
    }
}
