//! The answer of a call: read up to a limit, and taken for what it says it is.

use reqwest::{Response, header};
use runloom_engine::Value;

use super::{HttpAnswer, HttpError, failed};
use crate::egress::told;

/// The longest an empty buffer is made before anything has come.
const FIRST: usize = 64 << 10;

pub(super) async fn read(mut response: Response, host: &str, max_bytes: usize) -> Result<HttpAnswer, HttpError> {
    let too_long =
        || failed(host, format!("the answer is longer than {max_bytes} bytes; `max_bytes` sets another limit"), false);
    if response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(too_long());
    }
    let status = response.status();
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        match headers.iter_mut().find(|(known, _)| known == name.as_str()) {
            Some((_, before)) => *before = format!("{before}, {value}"),
            None => headers.push((name.as_str().to_owned(), value.into_owned())),
        }
    }
    let mut bytes = Vec::with_capacity(FIRST.min(max_bytes));
    let broken =
        |error: reqwest::Error| failed(host, format!("the answer breaks off: {}", told(&error.without_url())), true);
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > max_bytes {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let body = taken(bytes, kind, status.is_success()).map_err(|message| failed(host, message, false))?;
    Ok(HttpAnswer { status: status.as_u16(), headers, body })
}

/// What a body holds. One of an error may be anything: whoever answers an error is often not who was called.
fn taken(bytes: Vec<u8>, kind: &str, is_success: bool) -> Result<Value, String> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let length = bytes.len();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if !is_success || essence.starts_with("text/") => {
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
        Err(_) => {
            let kind = if essence.is_empty() { "no content type" } else { &essence };
            return Err(format!("the answer ({kind}, {length} bytes) is neither JSON nor a text in UTF-8"));
        }
    };
    if essence == "application/json" || essence.ends_with("+json") {
        match Value::parse(&text) {
            Ok(value) if value.depth() <= MAX_DEPTH => return Ok(value),
            Ok(_) if is_success => return Err(format!("the JSON of the answer nests deeper than {MAX_DEPTH}")),
            Err(error) if is_success => {
                return Err(format!("the answer says that it is {essence}, and is not: {error}"));
            }
            _ => {}
        }
    }
    Ok(text.into())
}

/// As deep as a state may be.
const MAX_DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn a_body_is_taken_for_what_it_says_it_is() {
        let read = |body: &str, kind: &str| taken(body.as_bytes().to_vec(), kind, true);
        assert_eq!(read(r#"{"a":1}"#, "application/json; charset=utf-8"), Ok(value!({"a": 1})));
        assert_eq!(read("[1]", "Application/Problem+JSON"), Ok(value!([1])));
        assert_eq!(read(r#"{"a":1}"#, "text/html"), Ok(value!("{\"a\":1}")));
        assert_eq!(read("", "application/json"), Ok(Value::Null));
        assert!(read("<html>", "application/json").unwrap_err().contains("and is not"));
        assert_eq!(taken(b"<html>".to_vec(), "application/json", false), Ok(value!("<html>")));
        assert!(taken(vec![0xff, 0xd8], "image/jpeg", true).unwrap_err().contains("image/jpeg, 2 bytes"));
        let deep = "[".repeat(120) + &"]".repeat(120);
        assert!(read(&deep, "application/json").unwrap_err().contains("deeper"));
    }
}
