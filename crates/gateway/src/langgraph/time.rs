//! Times as LangGraph writes and reads them.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-21T06:07:58.497242+00:00`.
pub fn iso(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let z = i64::try_from(days).unwrap_or(0) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (of_day / 3600, of_day % 3600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}+00:00", since.subsec_micros())
}

/// A time as clients write it; one without a timezone is in UTC.
pub fn read_iso(text: &str) -> Option<SystemTime> {
    let of_zone = chrono::DateTime::parse_from_rfc3339(text).map(SystemTime::from);
    let of_none = || text.parse::<chrono::NaiveDateTime>().map(|time| SystemTime::from(time.and_utc()));
    of_zone.or_else(|_| of_none()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_dates() {
        let at = |s, us| iso(UNIX_EPOCH + Duration::from_secs(s) + Duration::from_micros(us));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000001+00:00");
        assert_eq!(at(1_795_241_278, 497_242), "2026-11-21T06:07:58.497242+00:00");
    }

    #[test]
    fn times_are_read_with_and_without_a_timezone() {
        let whole = UNIX_EPOCH + Duration::from_secs(1_795_241_278);
        for text in ["2026-11-21T06:07:58Z", "2026-11-21T07:07:58.000000+01:00", "2026-11-21T06:07:58"] {
            assert_eq!(read_iso(text), Some(whole), "{text}");
        }
        assert_eq!(read_iso(&iso(whole + Duration::from_micros(5))), Some(whole + Duration::from_micros(5)));
        assert_eq!(read_iso("tomorrow"), None);
    }
}
