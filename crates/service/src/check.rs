//! Checks requests: every wrong field is found, not the first.

use std::{
    fmt::Display,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use runloom::v1::{ErrorReason, Json};
use runloom_core::{Error, Reason};
use runloom_engine::{Object, Value};
use tonic::Status;

use crate::{json, status};

/// The longest a duration may be: 10,000 years, as `google.protobuf.Duration` has it.
const MAX_SECONDS: i64 = 315_576_000_000;

/// The faults of one request. Every method notes what is wrong and gives something harmless to go on with;
/// [`done`](Self::done) then refuses the request.
#[derive(Default)]
pub(crate) struct Check {
    wrong: Vec<(String, String)>,
    /// The reason, where all faults so far have the same one.
    reason: Option<Reason>,
}

impl Check {
    /// Notes a fault.
    pub fn fail(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.fail_as(Reason::FieldInvalid, path, what);
    }

    fn fail_as(&mut self, reason: Reason, path: impl Into<String>, what: impl Into<String>) {
        self.reason = Some(match self.reason {
            None => reason,
            Some(before) if before == reason => reason,
            Some(_) => Reason::FieldInvalid,
        });
        self.wrong.push((path.into(), what.into()));
    }

    /// Takes the faults of a core's own check.
    pub fn take(&mut self, prefix: &str, error: Error) {
        if error.fields.is_empty() {
            self.fail_as(error.reason, prefix, error.message);
            return;
        }
        for (path, what) in error.fields {
            self.fail_as(error.reason, under(prefix, &path), what);
        }
    }

    /// Refuses the request if anything was wrong.
    pub fn done(self) -> Result<(), Status> {
        let message = match &*self.wrong {
            [] => return Ok(()),
            [(path, what)] => format!("{path}: {what}"),
            wrong => {
                let paths: Vec<_> = wrong.iter().map(|(path, _)| path.as_str()).collect();
                format!("{} fields are wrong: {}", wrong.len(), paths.join(", "))
            }
        };
        let mut error = Error::new(self.reason.unwrap_or(Reason::FieldInvalid), message);
        error.fields = self.wrong;
        Err(status::status(error))
    }

    /// An id that must be there.
    pub fn id<T: FromStr + From<uuid::Uuid>>(&mut self, path: &str, text: &str) -> T {
        match self.optional_id(path, text) {
            Some(id) => id,
            None => {
                if text.is_empty() {
                    self.fail(path, "missing: it takes a UUID");
                }
                uuid::Uuid::nil().into()
            }
        }
    }

    /// An id that may be left out.
    pub fn optional_id<T: FromStr>(&mut self, path: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        let id = text.parse().ok();
        if id.is_none() {
            self.fail(path, format!("not a UUID: `{}`", short(text)));
        }
        id
    }

    /// A name that must be there.
    pub fn name(&mut self, path: &str, text: String) -> String {
        if text.is_empty() {
            self.fail(path, "missing");
        }
        text
    }

    /// A value of an enum, unspecified included.
    pub fn one_of<E: TryFrom<i32> + Default>(&mut self, path: impl Into<String>, number: i32) -> E {
        E::try_from(number).unwrap_or_else(|_| {
            self.fail(path, format!("{number} is none of its values"));
            E::default()
        })
    }

    /// A list of values of an enum, none of them unspecified.
    pub fn each_of<E: TryFrom<i32>>(&mut self, path: &str, numbers: &[i32]) -> Vec<E> {
        let mut values = Vec::with_capacity(numbers.len());
        for (at, number) in numbers.iter().enumerate() {
            match E::try_from(*number) {
                Ok(value) if *number != 0 => values.push(value),
                _ => self.fail(format!("{path}[{at}]"), format!("{number} is none of its values")),
            }
        }
        values
    }

    /// Any JSON, where the field is set.
    pub fn json(&mut self, path: impl Into<String>, json: Option<Json>) -> Option<Value> {
        match json::decode(json?) {
            Ok(value) => Some(value),
            Err(error) => {
                let reason = match error.reason() {
                    ErrorReason::JsonTooDeep => Reason::JsonTooDeep,
                    _ => Reason::JsonInvalid,
                };
                self.fail_as(reason, path, error.to_string());
                None
            }
        }
    }

    /// An object, where the field is set.
    pub fn object(&mut self, path: &str, json: Option<Json>) -> Option<Object> {
        match self.json(path, json)? {
            Value::Object(fields) => Some(fields),
            other => {
                self.fail(path, format!("it takes an object, not {}", other.kind()));
                None
            }
        }
    }

    /// A length of time, not negative.
    pub fn duration(&mut self, path: &str, duration: Option<prost_types::Duration>) -> Option<Duration> {
        let prost_types::Duration { seconds, nanos } = duration?;
        if seconds < 0 || nanos < 0 {
            self.fail(path, "it must not be negative");
            return None;
        }
        if seconds > MAX_SECONDS || nanos > 999_999_999 {
            self.fail(path, "not a duration: up to 315,576,000,000 seconds and 999,999,999 nanoseconds");
            return None;
        }
        Some(Duration::new(seconds.unsigned_abs(), nanos.unsigned_abs()))
    }

    /// The same in whole milliseconds, rounded up, so that what is not nothing does not become nothing.
    pub fn millis(&mut self, path: &str, duration: Option<prost_types::Duration>) -> Option<u64> {
        let millis = self.duration(path, duration)?.as_nanos().div_ceil(1_000_000);
        Some(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// A time.
    pub fn time(&mut self, path: &str, time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
        let prost_types::Timestamp { seconds, nanos } = time?;
        // From year 1 to year 9999.
        let is_one = (-62_135_596_800..=253_402_300_799).contains(&seconds) && (0..=999_999_999).contains(&nanos);
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        let time = whole.and_then(|t| t.checked_add(Duration::from_nanos(nanos.unsigned_abs().into())));
        match time.filter(|_| is_one) {
            Some(time) => Some(time),
            None => {
                self.fail(path, "not a time between the years 1 and 9999");
                None
            }
        }
    }

    /// A text of at most so many characters.
    pub fn text(&mut self, path: &str, text: String, max: usize) -> String {
        if text.chars().nth(max).is_some() {
            self.fail(path, format!("longer than {max} characters"));
        }
        text
    }

    /// The namespace of a subgraph, from its segments.
    pub fn namespace(&mut self, path: &str, segments: &[String]) -> String {
        for (at, segment) in segments.iter().enumerate() {
            if segment.is_empty() || segment.contains('|') {
                self.fail(format!("{path}[{at}]"), "a segment is `node:task_id`, one a level");
            }
        }
        segments.join("|")
    }
}

/// A path within another.
pub(crate) fn under(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{path}"),
    }
}

/// The beginning of a text, for a message.
pub(crate) fn short(text: impl Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::{Durability, StreamMode};
    use runloom_engine::ThreadId;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    fn faults(check: Check) -> (String, Vec<String>) {
        let status = check.done().unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
        (details.error_info().unwrap().reason.clone(), fields)
    }

    #[test]
    fn every_fault_is_told() {
        let mut check = Check::default();
        let _: ThreadId = check.id("a", "");
        let _: Option<ThreadId> = check.optional_id("b", "nonsense");
        let _: Durability = check.one_of("c", 99);
        let _: Vec<StreamMode> = check.each_of("d", &[1, 0, 77]);
        check.json("e", Some(Json::from_text("{")));
        check.object("f", Some(Json::from_text("[]")));
        check.duration("g", Some(prost_types::Duration { seconds: -1, nanos: 0 }));
        check.duration("h", Some(prost_types::Duration { seconds: 0, nanos: 1_000_000_000 }));
        check.time("i", Some(prost_types::Timestamp { seconds: i64::MIN, nanos: -1 }));
        check.text("j", "x".repeat(129), 128);
        check.namespace("k", &["a:1".to_owned(), "b|c".to_owned()]);
        let (reason, fields) = faults(check);
        assert_eq!(reason, "FIELD_INVALID");
        assert_eq!(fields, ["a", "b", "c", "d[1]", "d[2]", "e", "f", "g", "h", "i", "j", "k[1]"]);
    }

    #[test]
    fn faults_of_json_alone_have_a_reason_of_their_own() {
        let deep = Json::from_text("[".repeat(200) + &"]".repeat(200));
        let mut check = Check::default();
        check.json("a", Some(deep.clone()));
        assert_eq!(faults(check), ("JSON_TOO_DEEP".to_owned(), vec!["a".to_owned()]));
        let mut check = Check::default();
        check.json("a", Some(Json::default()));
        check.json("b", Some(Json::from_text("")));
        assert_eq!(faults(check).0, "JSON_INVALID");
        let mut check = Check::default();
        check.json("a", Some(Json::default()));
        check.json("b", Some(deep));
        assert_eq!(faults(check).0, "FIELD_INVALID");
    }

    #[test]
    fn what_is_left_out_is_no_fault() {
        let mut check = Check::default();
        assert_eq!(check.optional_id::<ThreadId>("a", ""), None);
        assert_eq!(check.one_of::<Durability>("b", 0), Durability::Unspecified);
        assert_eq!(check.json("c", None), None);
        assert_eq!(check.millis("d", Some(prost_types::Duration { seconds: 1, nanos: 1 })), Some(1001));
        assert!(check.time("e", Some(prost_types::Timestamp { seconds: 1, nanos: 5 })).is_some());
        assert!(check.done().is_ok());
    }
}
