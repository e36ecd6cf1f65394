//! Values of options that several commands take.

use std::time::Duration;

/// A time as people write it: `500ms`, `30s`, `5m`, `2h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; write 500ms, 30s, 5m, 2h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A time that is more than nothing.
pub fn lasting(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("it must be more than nothing".to_owned()) } else { Ok(time) }
}

/// A time that is more than nothing, or none: `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off(pub Option<Duration>);

impl Off {
    /// Reads one.
    pub fn read(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { lasting(text).map(Some).map(Self) }
    }
}

/// A size as people write it: `1000`, `500KB`, `16MiB`, `1GiB`.
pub fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a size; write 1000, 500KB, 16MiB or 1GiB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|size| *size > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        for wrong in ["5", "m", "", "-1s", "1w", "1 s", "infs", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Off::read("off"), Ok(Off(None)));
        assert_eq!(Off::read("1s"), Ok(Off(Some(Duration::from_secs(1)))));
        assert!(Off::read("0s").is_err() && lasting("0ms").is_err());
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("500KB"), Ok(500_000));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        for wrong in ["0", "", "MiB", "1.5MiB", "-1", "16 MiB", "16M", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
