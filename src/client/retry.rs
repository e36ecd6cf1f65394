//! Which calls to retry, and after which delay.

use std::{
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

/// The number and the delays of retries after temporary failures.
///
/// Errors with [`Error::is_transient`] are retried: UNAVAILABLE, a broken connection, and every error for which the server names a delay, not earlier
/// than that delay. Delays double, with jitter in their upper half, so that clients that were cut off together do not return together.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Maximum number of consecutive retries. A stream resets the count with each new part. 0: no retries. Default: 15, more than a minute in all.
    pub max_retries: u32,
    /// The first delay. Default: 100 ms.
    pub initial_delay: Duration,
    /// The longest delay, unless the server names a longer one. Default: 8 s.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 15, initial_delay: Duration::from_millis(100), max_delay: Duration::from_secs(8) }
    }
}

impl RetryPolicy {
    /// The delay after this many consecutive failures, the last of them `error`. `None`: no retry.
    pub(super) fn delay(&self, failures: u32, error: &Error) -> Option<Duration> {
        if failures > self.max_retries || !error.is_transient() {
            return None;
        }
        let doubled =
            self.initial_delay.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let delay = doubled.min(self.max_delay).mul_f64(0.5 + random() / 2.0);
        // The jitter is added to the server's delay, so that clients still spread.
        Some(
            error
                .retry_delay()
                .map_or(delay, |asked| asked.max(delay).saturating_add(self.initial_delay.mul_f64(random()))),
        )
    }

    /// Repeats a call until it succeeds, fails permanently, or the retries are used up.
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

/// A random number from 0 to 1, from the random keys of the standard library's hash maps; sufficient for jitter.
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
