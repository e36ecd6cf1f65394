//! The log: what to write, and how.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::{Failure, Result};

/// What is logged where `RUST_LOG` does not say. Some crates log what users write to models: they stay silent.
const DEFAULT: &str = "info,genai=off";

/// How the log is written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// A line of JSON each
    Json,
}

/// Begins to log.
pub fn init(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.trim().is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| Failure::usage(format!("RUST_LOG is `{text}`: {error}")))?
        }
        _ => EnvFilter::new(DEFAULT),
    };
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).compact().init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Begins to log where `RUST_LOG` asks for it: for commands that have better to say than what goes on inside.
pub fn quiet() -> Result<()> {
    if std::env::var_os("RUST_LOG").is_some() { init(LogFormat::Text) } else { Ok(()) }
}
