//! The log: what to write, and how.

use std::io::IsTerminal;

use clap::ValueEnum;
use runloom_engine::trace;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use crate::failure::{Failure, Result};

/// What is logged where `RUST_LOG` does not say. Some crates log what users write to models: they stay silent.
const DEFAULT: &str = "info,genai=off,rmcp=warn";

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
    let filter = match &asked {
        Some(text) => {
            // The library under the models logs what users write to them, so it speaks up only where it is asked for by name.
            let text = if text.contains("genai") { text.clone() } else { format!("{text},genai=off") };
            EnvFilter::try_new(&text).map_err(|error| Failure::usage(format!("RUST_LOG is `{text}`: {error}")))?
        }
        None => EnvFilter::new(DEFAULT),
    };
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
