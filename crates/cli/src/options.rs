//! Parsers of option values that several commands share.

use std::time::Duration;

use bytesize::ByteSize;

/// Parses a duration: `500ms`, `30s`, `5m`, `2h`, `7d`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration `{text}`; use a number with a unit: 500ms, 30s, 5m, 2h, 7d"))
}

/// Parses a duration greater than zero.
pub fn nonzero_duration(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("the duration must be greater than zero".to_owned()) } else { Ok(time) }
}

/// A duration greater than zero, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationOrOff(pub Option<Duration>);

impl DurationOrOff {
    /// Parses one.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { nonzero_duration(text).map(Some).map(Self) }
    }
}

/// Parses a size greater than zero: `1000`, `500KB`, `16MiB`, `1GiB`.
pub fn bytes(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok());
    size.filter(|size| *size > 0).ok_or_else(|| {
        format!("invalid size `{text}`; use a number of bytes with or without a unit: 1000, 500KB, 16MiB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        for wrong in ["5", "m", "", "-1s", "1x", "infs", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(DurationOrOff::parse("off"), Ok(DurationOrOff(None)));
        assert_eq!(DurationOrOff::parse("1s"), Ok(DurationOrOff(Some(Duration::from_secs(1)))));
        assert!(DurationOrOff::parse("0s").is_err() && nonzero_duration("0ms").is_err());
    }

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("500KB"), Ok(500_000));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        for wrong in ["0", "", "MiB", "-1", "16X"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
