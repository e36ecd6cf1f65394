//! The log: what to write, and how.

use std::io::IsTerminal;

use clap::ValueEnum;
use runloom_engine::trace;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use crate::failure::{Failure, Result};

/// What is logged where `RUST_LOG` does not say.
const DEFAULT: &str = "info";
/// Crates that log what users write to models, or addresses with keys in them: they speak up only where they are asked by name.
const SILENT: [&str; 2] = ["genai", "rmcp"];

/// How the log is written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// A line of JSON each
    Json,
}

/// Who writes the log.
pub fn layer<S>(format: LogFormat) -> Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let mut text = asked.clone().unwrap_or_else(|| DEFAULT.to_owned());
    for name in SILENT {
        if !text.contains(name) {
            text = format!("{text},{name}=off");
        }
    }
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| Failure::usage(format!("RUST_LOG is `{}`: {error}", asked.as_deref().unwrap_or_default())))?;
    // Spans of traces are many: they are exported, and are no lines of a log unless they are named.
    let is_named = asked.is_some_and(|text| text.contains(trace::TARGET));
    let filter = match format!("{}=off", trace::TARGET).parse() {
        Ok(directive) if !is_named => filter.add_directive(directive),
        _ => filter,
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    Ok(match format {
        LogFormat::Text => {
            lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).compact().with_filter(filter).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    })
}
