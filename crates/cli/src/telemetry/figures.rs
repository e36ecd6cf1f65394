//! Figures for Prometheus.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use runloom_gateway::Figures;

use crate::failure::{Failure, Result};

/// The bounds of what takes from tens of microseconds to minutes, in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];
/// How often what was recorded is put together where nobody asks for it: memory would grow otherwise.
const UPKEEP: Duration = Duration::from_secs(5);

/// Begins to keep figures, and gives who tells them.
pub fn figures() -> Result<Figures> {
    let told = |error: metrics_exporter_prometheus::BuildError| Failure::failed(format!("no figures: {error}"));
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS);
    let handle = builder.map_err(told)?.install_recorder().map_err(told)?;
    runloom_core::describe_metrics();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Figures(Arc::new(move || handle.render())))
}
