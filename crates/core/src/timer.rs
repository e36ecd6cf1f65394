//! Waiting for a time of the clock, without asking again and again.

use std::time::{Duration, SystemTime};

use runloom_engine::Clock;
use tokio::sync::Notify;

/// The longest sleep: the machine may have slept meanwhile, or its clock may have been set.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Waits until a time has come, or until there is news. The caller looks at the clock again.
pub(crate) async fn until(clock: &dyn Clock, at: Option<SystemTime>, news: &Notify) {
    let Some(at) = at else { return news.notified().await };
    let wait = at.duration_since(clock.now()).unwrap_or_default().min(LONGEST);
    // A little later than its time, so that it has come by every clock.
    let timer = tokio::time::timeout(wait + Duration::from_millis(1), news.notified());
    drop(timer.await);
}
