//! When a call is tried again.

use std::time::Duration;

/// The longest that is waited before the next attempt; where a provider asks for more, the call fails and says so.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

const FIRST: Duration = Duration::from_millis(500);
const LONGEST_OWN: Duration = Duration::from_secs(8);

/// How long to wait before attempt `next` (the second is 2): what the provider asked for, or twice as long each time, with up to a quarter less.
pub(crate) fn pause(next: u32, asked: Option<Duration>) -> Duration {
    if let Some(asked) = asked {
        return asked;
    }
    let doubled = FIRST.saturating_mul(1 << next.saturating_sub(2).min(16)).min(LONGEST_OWN);
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    doubled.mul_f64(1.0 - 0.25 * (low % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_about_twice_the_last_up_to_a_limit() {
        let near = |next, ms: u64| {
            let (pause, most) = (pause(next, None), Duration::from_millis(ms));
            assert!(pause <= most && pause >= most.mul_f64(0.75), "{next}: {pause:?}");
        };
        for (next, ms) in [(2, 500), (3, 1000), (4, 2000), (6, 8000), (7, 8000), (u32::MAX, 8000)] {
            near(next, ms);
        }
        assert_eq!(pause(2, Some(Duration::from_millis(7))), Duration::from_millis(7));
    }
}
