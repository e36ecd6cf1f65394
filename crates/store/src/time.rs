//! Times as they are kept: nanoseconds since 1970, in 64 bits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in nanoseconds since 1970; what 64 bits do not hold is the nearest that they do.
pub fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// The time of so many nanoseconds since 1970.
pub fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let there = if nanos < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    there.unwrap_or(UNIX_EPOCH)
}

/// The last time that is kept.
pub fn last() -> SystemTime {
    time(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back() {
        for n in [0, 1, -1, 1_700_000_000_123_456_789, i64::MAX, i64::MIN] {
            assert_eq!(nanos(time(n)), n);
        }
    }
}
