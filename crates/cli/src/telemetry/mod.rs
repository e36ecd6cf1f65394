//! Logs, traces and metrics of the program.

mod log;
mod metrics;
mod traces;

use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use self::traces::Traces;
pub use self::{log::LogFormat, metrics::install_metrics};
use crate::failure::Result;

/// The exporters, to be stopped before the program ends.
#[must_use = "spans that have not been exported are lost"]
pub struct Telemetry {
    traces: Option<Traces>,
}

impl Telemetry {
    /// Starts the log, and the export of spans if the environment names a collector.
    pub fn start(format: LogFormat) -> Result<Self> {
        let log = log::layer(format)?;
        let (traces, spans) = traces::start()?;
        tracing_subscriber::registry().with(log).with(spans).init();
        Ok(Self { traces })
    }

    /// The same for commands other than `serve`: they log only if `RUST_LOG` is set.
    pub fn quiet() -> Result<Self> {
        let log = match std::env::var_os("RUST_LOG") {
            Some(_) => Some(log::layer(LogFormat::Text)?),
            None => None,
        };
        let (traces, spans) = traces::start()?;
        if log.is_some() || spans.is_some() {
            tracing_subscriber::registry().with(log).with(spans).init();
        }
        Ok(Self { traces })
    }

    /// Exports the remaining spans.
    pub async fn stop(self) {
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}
