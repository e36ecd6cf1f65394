//! What the program tells of itself to those who operate it: a log, traces, figures.

mod figures;
mod log;
mod traces;

use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use self::traces::Traces;
pub use self::{figures::figures, log::LogFormat};
use crate::failure::Result;

/// What has to be ended with the program, so that nothing is left untold.
#[must_use = "spans that are not exported yet are lost"]
pub struct Telemetry {
    traces: Option<Traces>,
}

impl Telemetry {
    /// Begins to log, and to export spans where the environment says where to.
    pub fn start(format: LogFormat) -> Result<Self> {
        let log = log::layer(format)?;
        let (traces, spans) = traces::start()?;
        tracing_subscriber::registry().with(log).with(spans).init();
        Ok(Self { traces })
    }

    /// The same for commands that have better to say than what goes on inside: they log where `RUST_LOG` asks for it.
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

    /// Exports what is left.
    pub async fn stop(self) {
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}
