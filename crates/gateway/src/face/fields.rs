//! The fields of a body, each read as what it has to be. Fields that are not known are passed over.

use std::{ops::RangeInclusive, sync::LazyLock, time::Duration};

use runloom_engine::{List, Object, Value};
use uuid::Uuid;

use super::Fail;

/// The most minutes that something may be kept: a thousand years.
pub(crate) const MOST_MINUTES: u64 = 525_960_000;

static NONE: LazyLock<Object> = LazyLock::new(Object::default);

/// The fields of an object. A `null` is as good as none.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    all: &'a Object,
}

/// Reads an id.
pub(crate) fn uuid(text: &str, what: &str) -> Result<Uuid, Fail> {
    Uuid::parse_str(text).map_err(|_| Fail::invalid(format!("Invalid {what}: must be a UUID")))
}

impl<'a> Fields<'a> {
    /// Of an object, or of nothing.
    pub fn of(value: &'a Value) -> Result<Self, Fail> {
        match value {
            Value::Null => Ok(Self { all: &NONE }),
            Value::Object(all) => Ok(Self { all }),
            other => Err(Fail::invalid(format!("the body must be an object, not {}", other.kind()))),
        }
    }

    /// Of an object.
    pub fn within(all: &'a Object) -> Self {
        Self { all }
    }

    /// A field as it came.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.all.get(key).filter(|v| !v.is_null())
    }

    /// Whether a field is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.all.contains_key(key)
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Fail> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Fail::invalid(format!("{key}: must be {what}, not {}", value.kind())))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Fail> {
        self.read(key, "a string", Value::as_str)
    }

    pub fn flag(&self, key: &str) -> Result<bool, Fail> {
        Ok(self.maybe_flag(key)?.unwrap_or(false))
    }

    /// True, false, or not said.
    pub fn maybe_flag(&self, key: &str) -> Result<Option<bool>, Fail> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub fn object(&self, key: &str) -> Result<Option<&'a Object>, Fail> {
        self.read(key, "an object", Value::as_object)
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a List>, Fail> {
        self.read(key, "a list", Value::as_list)
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Fail> {
        self.read(key, "a list of strings", |v| {
            v.as_list()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        })
    }

    /// Texts in a list, or one by itself.
    pub fn text_or_texts(&self, key: &str) -> Result<Option<Vec<String>>, Fail> {
        self.read(key, "a string, or a list of strings", |v| match v {
            Value::String(one) => Some(vec![one.to_string()]),
            other => other.as_list()?.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        })
    }

    /// An integer within bounds; one that came as a double counts.
    pub fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Fail> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let whole = match value {
            Value::Float(f) if f.fract() == 0.0 && (0.0..9e15).contains(f) => Some(*f as u64),
            other => other.as_u64(),
        };
        match whole {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(Fail::invalid(format!("{key}: must be an integer from {} to {}", range.start(), range.end()))),
        }
    }

    /// A time in minutes, which need not be whole.
    pub fn minutes(&self, key: &str) -> Result<Option<Duration>, Fail> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let minutes = value.as_f64().filter(|minutes| *minutes > 0.0 && *minutes <= MOST_MINUTES as f64);
        match minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)).filter(|time| !time.is_zero()) {
            None => {
                let what = format!("{key}: must be a number of minutes, more than 0 and at most {MOST_MINUTES}");
                Err(Fail::invalid(what))
            }
            time => Ok(time),
        }
    }

    pub fn uuid(&self, key: &str, what: &str) -> Result<Option<Uuid>, Fail> {
        self.text(key)?.map(|text| uuid(text, what)).transpose()
    }

    /// One of some words.
    pub fn word(&self, key: &str, known: &[&'static str]) -> Result<Option<&'static str>, Fail> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let found = known.iter().find(|k| **k == text).copied();
        found
            .map(Some)
            .ok_or_else(|| Fail::invalid(format!("{key}: must be one of {}, not `{text}`", known.join(", "))))
    }

    /// Which part of a list: how many, and after how many.
    pub fn page(&self, usual: usize) -> Result<(usize, usize), Fail> {
        let limit = self.number("limit", 1..=1000)?.map_or(usual, |n| n as usize);
        let offset = self.number("offset", 0..=i64::MAX as u64)?.map_or(0, |n| n as usize);
        Ok((limit, offset))
    }

    /// What this server cannot do, where it is asked for.
    pub fn refuse(&self, key: &str, why: &str) -> Result<(), Fail> {
        match self.value(key) {
            None => Ok(()),
            Some(_) => Err(Fail::invalid(format!("{key}: {why}"))),
        }
    }
}
