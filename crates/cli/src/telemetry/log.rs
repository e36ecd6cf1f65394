//! The log: its level and its format.

use std::io::IsTerminal;

use clap::ValueEnum;
use runloom_engine::trace;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use crate::failure::{Failure, Result};

/// The level if `RUST_LOG` is not set.
const DEFAULT: &str = "info";
/// Crates that log prompts, or addresses with keys: silent unless `RUST_LOG` names them.
const SILENT: [&str; 1] = ["rmcp"];

/// The format of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per entry
    Text,
    /// One JSON object per line
    Json,
}

/// The layer that writes the log to standard error.
pub fn layer<S>(format: LogFormat) -> Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let variable = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let mut text = variable.clone().unwrap_or_else(|| DEFAULT.to_owned());
    for name in SILENT {
        if !text.contains(name) {
            text = format!("{text},{name}=off");
        }
    }
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        Failure::usage(format!("invalid RUST_LOG `{}`: {error}", variable.as_deref().unwrap_or_default()))
    })?;
    // The spans of traces are exported and not logged, unless `RUST_LOG` names their target.
    let is_named = variable.is_some_and(|text| text.contains(trace::TARGET));
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
