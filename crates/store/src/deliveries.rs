//! Deliveries: what is to be posted now that a run has ended, kept with its end until it is delivered or given up.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::RunId;

use crate::Result;

/// What is to be posted when a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Where to.
    pub url: String,
    /// What: a JSON object.
    pub body: String,
}

/// What waits to be posted. A run has one at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The run that has ended.
    pub run: RunId,
    /// Where to.
    pub url: String,
    /// What: a JSON object.
    pub body: String,
    /// When the run ended.
    pub created_at: SystemTime,
    /// When it is to be tried.
    pub next_at: SystemTime,
    /// How often it failed.
    pub attempts: u32,
    /// How it failed last.
    pub error: Option<String>,
}

impl Delivery {
    /// The delivery of a run that ends now.
    pub fn new(run: RunId, new: NewDelivery, now: SystemTime) -> Self {
        let NewDelivery { url, body } = new;
        Self { run, url, body, created_at: now, next_at: now, attempts: 0, error: None }
    }
}

/// Deliveries. They are made by [`finish_run`](crate::Runs::finish_run), and stay when the run goes.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// The runs whose deliveries wait, with the times at which they are to be tried, the soonest first.
    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>>;

    /// What waits to be posted for a run.
    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>>;

    /// Notes that it failed, and when it is tried again.
    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()>;

    /// Deletes it: it was delivered, or given up.
    async fn delete_delivery(&self, run: RunId) -> Result<()>;
}
