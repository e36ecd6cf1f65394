//! Metrics for Prometheus.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use runloom_gateway::Figures;

use crate::failure::{Failure, Result};

/// Upper bounds of the histogram buckets, in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];
/// How often recorded samples are aggregated if nothing scrapes the metrics; without it their memory grows.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of the process, and returns the function that renders the metrics.
pub fn install_metrics() -> Result<Figures> {
    let failed = |error: metrics_exporter_prometheus::BuildError| {
        Failure::failed(format!("cannot install the metrics recorder: {error}"))
    };
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS);
    let handle = builder.map_err(failed)?.install_recorder().map_err(failed)?;
    runloom_core::describe_metrics();
    runloom_net::describe_metrics();
    runloom_auth::describe_metrics();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Figures(Arc::new(move || handle.render())))
}
