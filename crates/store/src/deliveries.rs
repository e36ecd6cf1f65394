//! Deliveries: what is to be posted now that a run has ended. One is stored with the end of its run, and stays until it
//! is delivered or given up, also where the run is deleted.

use std::time::SystemTime;

use runloom_engine::RunId;

use crate::TenantId;

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
    /// Whose it is: that of the run.
    pub tenant: TenantId,
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
    pub fn new(tenant: TenantId, run: RunId, new: NewDelivery, now: SystemTime) -> Self {
        let NewDelivery { url, body } = new;
        Self { tenant, run, url, body, created_at: now, next_at: now, attempts: 0, error: None }
    }
}
