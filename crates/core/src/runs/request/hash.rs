//! Whether two requests with the same id are the same request.

use runloom_engine::{Object, Value};
use runloom_store::Multitask;
use sha2::{Digest, Sha256};

use super::{RunOptions, RunRequest, Target};
use crate::{Error, Result};

/// The version of the hash, its first byte. A hash of another version says nothing about this one.
const VERSION: u8 = 1;

/// A hash of what a request asks the engine for, and of where and when. Fields that have their default are left out, so that a
/// field added later does not change the hash of a request made before; the order of an object's keys does not count.
pub(crate) fn hash_of(request: &RunRequest) -> Result<Vec<u8>> {
    let mut asked = Object::default();
    asked.insert("options", Value::Object(set_options(&request.spec.options)?));
    match &request.target {
        Target::Assistant(id) => asked.insert("assistant", id.to_string()),
        Target::Graph(name) => asked.insert("graph", name.as_str()),
    }
    if let Some(thread) = request.thread_id {
        asked.insert("thread", thread.to_string());
    }
    if request.create_thread {
        asked.insert("create_thread", true);
    }
    if request.multitask != Multitask::default() {
        asked.insert("multitask", request.multitask.name());
    }
    if let Some(at) = request.start_time {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        asked.insert("start_micros", u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
    }
    if let Some(id) = request.expected_checkpoint_id {
        asked.insert("expected_checkpoint", id.to_string());
    }
    let mut hash = Sha256::new();
    canonical(&Value::Object(asked), &mut hash);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&hash.finalize());
    Ok(bytes)
}

/// Whether a stored hash is that of the same request. One of another version cannot be compared: the id decides.
pub(crate) fn is_same(stored: &[u8], new: &[u8]) -> bool {
    stored == new || stored.len() != new.len() || stored.first() != new.first()
}

/// The options that are set to something else than their default.
fn set_options(options: &RunOptions) -> Result<Object> {
    let object = |options: &RunOptions| match runloom_engine::to_value(options) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(Object::default()),
        Err(error) => Err(Error::field("config", format!("cannot be stored: {error}"))),
    };
    let (all, defaults) = (object(options)?, object(&RunOptions::default())?);
    Ok(all
        .iter()
        .filter(|(key, value)| defaults.get(key) != Some(value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect())
}

/// JSON with sorted keys and without spaces, into a hash.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            hash.update("{");
            for (key, value) in sorted {
                hash.update(Value::from(&**key).to_string());
                hash.update(":");
                canonical(value, hash);
                hash.update(",");
            }
            hash.update("}");
        }
        Value::List(items) => {
            hash.update("[");
            for item in items.iter() {
                canonical(item, hash);
                hash.update(",");
            }
            hash.update("]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::{super::Start, *};

    fn request(input: Value) -> RunRequest {
        let mut request = RunRequest { target: Target::Graph("joke".to_owned()), ..RunRequest::default() };
        request.spec.options.start = Start::Input(input);
        request
    }

    /// The bytes that this version of the hash has had from its beginning: a change of them would make every client that
    /// repeats a request across an update of the server fail.
    #[test]
    fn the_hash_of_a_request_stays_what_it_is() {
        let hash = hash_of(&request(value!({"topic": "tea", "n": 1.5}))).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01cee4694dce39bbc022a8aea83a1f961921449d11dd997ddeb94313f6ca1fd917");
    }

    #[test]
    fn what_the_engine_does_not_need_and_the_order_of_keys_do_not_count() {
        let first = hash_of(&request(value!({"a": 1, "b": [true]}))).unwrap();
        let mut other = request(value!({"b": [true], "a": 1}));
        other.spec.recording.modes = 3;
        other.spec.delivery.webhook = Some("https://h.test".to_owned());
        other.request_id = Some("r".to_owned());
        assert_eq!(hash_of(&other).unwrap(), first);
        other.spec.options.recursion_limit = 9;
        assert_ne!(hash_of(&other).unwrap(), first);
        assert_ne!(hash_of(&request(value!({"a": 1, "b": [false]}))).unwrap(), first);
    }

    #[test]
    fn a_hash_of_another_version_says_nothing() {
        let new = hash_of(&request(value!({}))).unwrap();
        assert!(is_same(&new, &new) && is_same(&[7; 32], &new));
        assert!(!is_same(&hash_of(&request(value!({"a": 1}))).unwrap(), &new));
    }
}
