//! The binary `runloom`: a server for agent graphs, and commands to run and inspect them.

mod backend;
mod embedded;
mod examples;
mod exit;
mod failure;
mod graph;
mod health;
mod integrations;
mod keys;
mod options;
mod remote;
mod run;
mod runs;
mod screen;
mod serve;
mod signals;
mod store;
mod style;
mod table;
mod telemetry;
mod threads;
mod wire;
mod workers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    failure::{Failure, Result},
    telemetry::Telemetry,
};

/// Parts of streams are allocated on one thread and freed on another; the system's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  runloom run agent 'What is the weather?'    run an example graph, without a server
  runloom serve                               serve the examples on 127.0.0.1:50051
  runloom serve --graphs ./graphs             serve your documents; store data in ./data
  runloom graph check graphs/*.yaml           check graph documents

`runloom COMMAND --help` has examples for each command.";

/// Server for agent graphs, with durable streams that clients can rejoin
#[derive(Parser, Debug)]
#[command(name = "runloom", version, styles = style::clap(), max_term_width = 110, disable_help_subcommand = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(Box<serve::Serve>),
    Run(Box<run::Run>),
    Runs(runs::Runs),
    Threads(threads::Threads),
    Workers(workers::Workers),
    Keys(keys::Keys),
    Graph(graph::GraphCommand),
    Health(health::Health),
    Store(store::StoreCommand),
}

impl Command {
    async fn run(self) -> Result {
        let telemetry = match &self {
            Self::Serve(serve) => Telemetry::start(serve.log_format())?,
            _ => Telemetry::quiet()?,
        };
        let result = match self {
            Self::Serve(command) => command.run().await,
            Self::Run(command) => command.run().await,
            Self::Runs(command) => command.run().await,
            Self::Threads(command) => command.run().await,
            Self::Workers(command) => command.run().await,
            Self::Keys(command) => command.run().await,
            Self::Graph(command) => command.run().await,
            Self::Health(command) => command.run().await,
            Self::Store(command) => command.run().await,
        };
        telemetry.stop().await;
        result
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report().into(),
    };
    let exit = runtime.block_on(cli.command.run()).unwrap_or_else(|failure| failure.report());
    // A thread that reads from the prompt cannot be stopped; do not wait for it.
    runtime.shutdown_background();
    exit.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        let cli = super::Cli::command();
        let deeper = cli.get_subcommands().flat_map(|command| command.get_subcommands());
        for command in cli.get_subcommands().chain(deeper) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example"), "{name}");
            let long = help.lines().find(|line| line.starts_with("  ") && line.chars().count() > 100);
            assert_eq!(long, None, "{name}: it would wrap");
        }
    }
}
