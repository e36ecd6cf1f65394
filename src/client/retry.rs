//! When to try again, and how long to wait before.

use std::{
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

/// How often, and after which delays, what failed for a moment is tried again.
///
/// Tried again is what [`Error::is_transient`]: UNAVAILABLE, a broken connection, and whatever the server says to wait for; at the earliest when
/// it says. The delays double, and are drawn from their upper half, so that clients cut off together do not come back together.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often in a row. A stream counts anew after each new part. 0: never. Default: 15, over a minute with the delays as they are.
    pub max_retries: u32,
    /// The first delay. Default: 100 ms.
    pub initial_delay: Duration,
    /// The longest delay, unless the server asks for a longer one. Default: 8 s.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 15, initial_delay: Duration::from_millis(100), max_delay: Duration::from_secs(8) }
    }
}

impl RetryPolicy {
    /// How long to wait after this many failures in a row, the last of them `error`. None: do not try again.
    pub(super) fn delay(&self, failures: u32, error: &Error) -> Option<Duration> {
        if failures > self.max_retries || !error.is_transient() {
            return None;
        }
        let doubled =
            self.initial_delay.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let delay = doubled.min(self.max_delay).mul_f64(0.5 + random() / 2.0);
        // Past the server's own delay the jitter still spreads the clients.
        Some(
            error
                .retry_delay()
                .map_or(delay, |asked| asked.max(delay).saturating_add(self.initial_delay.mul_f64(random()))),
        )
    }

    /// Calls until it works, fails for good, or was tried often enough.
    pub(super) async fn call<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(status) => Error::from(status),
            };
            failures += 1;
            match self.delay(failures, &error) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            }
        }
    }
}

/// From 0 to 1. Good enough to spread clients: the keys of the standard library's hash maps are random.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_end() {
        let policy = RetryPolicy { max_retries: 40, ..RetryPolicy::default() };
        let error = Error::new(Code::Unavailable, "gone");
        for failures in 1..=40 {
            let full =
                Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(failures - 1)).min(policy.max_delay);
            let delay = policy.delay(failures, &error).unwrap();
            assert!(full / 2 <= delay && delay <= full, "{failures}: {delay:?} of {full:?}");
        }
        assert_eq!(policy.delay(41, &error), None);
        assert_eq!(policy.delay(1, &Error::new(Code::NotFound, "no")), None);
    }

    #[test]
    fn the_servers_delay_is_the_least() {
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_secs(30)));
        let status =
            <tonic::Status as tonic_types::StatusExt>::with_error_details(Code::Unavailable, "draining", details);
        let delay = RetryPolicy::default().delay(1, &status.into()).unwrap();
        assert!((30_000..=30_100).contains(&delay.as_millis()), "{delay:?}");
    }
}
