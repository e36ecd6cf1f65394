//! When a cron is due: its expression, read and reckoned with in its timezone.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::{Error, Result};

/// What an expression may look like, for messages.
const FORM: &str = "five fields (minute, hour, day of month, month, day of week), or six with the seconds last";
/// The most characters of an expression.
const MAX_LENGTH: usize = 256;

/// A cron expression in a timezone.
#[derive(Debug)]
pub(super) struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// Reads an expression. LangGraph's has its seconds, which may be left out, in the last place.
    pub fn parse(expression: &str, zone: Option<&str>) -> Result<Self> {
        let wrong = |what: String| Error::field("schedule", what);
        if expression.len() > MAX_LENGTH {
            return Err(wrong(format!("is longer than {MAX_LENGTH} characters")));
        }
        let mut fields: Vec<&str> = expression.split_whitespace().collect();
        match *fields {
            [name] if name.starts_with('@') => {}
            [_, _, _, _, _] => {}
            [_, _, _, _, _, _] => fields.rotate_right(1),
            _ => return Err(wrong(format!("`{expression}` is no cron expression: it takes {FORM}, or `@daily`"))),
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(&fields.join(" ")).map_err(|error| {
            wrong(format!(
                "`{expression}` is no cron expression: {}; it takes {FORM}",
                error.to_string().trim_end_matches('.')
            ))
        })?;
        let zone = match zone {
            None => Tz::UTC,
            Some(name) => name.parse().map_err(|_| {
                let what = format!("there is no timezone `{name}`; use a name such as `Europe/Vienna`");
                Error::field("timezone", what)
            })?,
        };
        let schedule = Self { cron, zone };
        if schedule.next(SystemTime::now(), None).is_none() {
            return Err(wrong(format!("`{expression}` is never due; it takes a day that there is")));
        }
        Ok(schedule)
    }

    /// The first time that is due after one, unless that is past the end.
    pub fn next(&self, after: SystemTime, end: Option<SystemTime>) -> Option<SystemTime> {
        let after = DateTime::<Utc>::from(after).with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        let seconds = u64::try_from(next.timestamp()).ok()?;
        let next = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        end.is_none_or(|end| next <= end).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        DateTime::parse_from_rfc3339(text).unwrap().into()
    }

    fn next(expression: &str, zone: Option<&str>, after: &str) -> String {
        let next = Schedule::parse(expression, zone).unwrap().next(at(after), None).unwrap();
        DateTime::<Utc>::from(next).to_rfc3339()
    }

    #[test]
    fn an_expression_is_due_in_its_timezone() {
        for (expression, zone, after, wanted) in [
            ("*/15 * * * *", None, "2026-01-01T00:00:00.5Z", "2026-01-01T00:15:00+00:00"),
            ("*/15 * * * *", None, "2026-01-01T00:15:00Z", "2026-01-01T00:30:00+00:00"),
            ("0 9 * * MON-FRI", Some("Europe/Vienna"), "2026-01-02T12:00:00Z", "2026-01-05T08:00:00+00:00"),
            ("0 9 * * *", Some("Europe/Vienna"), "2026-07-02T12:00:00Z", "2026-07-03T07:00:00+00:00"),
            // The seconds come last.
            ("* * * * * */10", None, "2026-01-01T00:00:01Z", "2026-01-01T00:00:10+00:00"),
            ("@daily", None, "2026-01-01T00:00:01Z", "2026-01-02T00:00:00+00:00"),
            // A day of the month or a day of the week, where both are given.
            ("0 0 13 * 5", None, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00"),
            // The hour that is left out in spring, and the one that comes twice in autumn.
            ("30 2 * * *", Some("Europe/Vienna"), "2026-03-28T12:00:00Z", "2026-03-29T01:00:00+00:00"),
            ("30 2 * * *", Some("Europe/Vienna"), "2026-10-24T12:00:00Z", "2026-10-25T00:30:00+00:00"),
            ("30 2 * * *", Some("Europe/Vienna"), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00+00:00"),
        ] {
            assert_eq!(next(expression, zone, after), wanted, "{expression} {zone:?} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        for wrong in ["", "* * * *", "* * * * * * *", "61 * * * *", "x * * * *", "@never", "0 0 30 2 *"] {
            let error = Schedule::parse(wrong, None).unwrap_err();
            assert_eq!(error.fields[0].0, "schedule", "{wrong}: {error}");
        }
        let error = Schedule::parse("* * * * *", Some("Mars/Olympus")).unwrap_err();
        assert_eq!(error.fields[0].0, "timezone", "{error}");
    }

    #[test]
    fn nothing_is_due_past_the_end() {
        let schedule = Schedule::parse("0 * * * *", None).unwrap();
        let now = at("2026-01-01T00:10:00Z");
        assert_eq!(schedule.next(now, Some(at("2026-01-01T01:00:00Z"))), Some(at("2026-01-01T01:00:00Z")));
        assert_eq!(schedule.next(now, Some(at("2026-01-01T00:59:59Z"))), None);
    }
}
