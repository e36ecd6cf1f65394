//! Waiting for a time of the clock, without asking again and again.

use std::time::{Duration, SystemTime};

use runloom_engine::Clock;
use runloom_store::Watch;

/// The longest sleep: the machine may have slept meanwhile, its clock may have been set, or a hint was lost.
const LONGEST: Duration = Duration::from_secs(60);

/// Waits until a time has come, or until there is a hint. The caller looks at the clock again.
pub(crate) async fn until(clock: &dyn Clock, at: Option<SystemTime>, hints: &mut Watch) {
    let wait = at.map_or(LONGEST, |at| at.duration_since(clock.now()).unwrap_or_default().min(LONGEST));
    // A little later than its time, so that it has come by every clock.
    drop(tokio::time::timeout(wait + Duration::from_millis(1), hints.changed()).await);
}
