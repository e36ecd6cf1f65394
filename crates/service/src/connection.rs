//! What a call knows beside its message: its connection and its deadline.

use std::time::Duration;

use http::HeaderMap;
use runloom_core::{Error, Reason};
pub(crate) use runloom_net::Connection;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Request, Status};

use crate::status::status;

/// What a call knows beside its message.
pub(crate) struct Call {
    /// When its caller stops waiting.
    pub deadline: Option<Instant>,
    /// The connection it came over.
    pub connection: Connection,
}

impl Call {
    /// Of a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let timeout = timeout_in(request.metadata().as_ref());
        Self {
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            connection: request.extensions().get::<Connection>().cloned().unwrap_or_default(),
        }
    }

    /// Counts an open stream of the connection, for as long as the permit is held.
    pub fn open_stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.connection.open_stream().ok_or_else(|| {
            let maximum = self.connection.max_streams();
            let message = format!(
                "this connection has {maximum} open streams, which is its limit; close one, or open another connection"
            );
            let error = Error::new(Reason::LimitReached, message);
            status(error.with("limit", "streams_per_connection").with("maximum", maximum))
        })
    }

    /// The other end of the connection, for messages.
    pub fn caller(&self) -> String {
        match self.connection.peer() {
            Some(peer) => format!("a caller at {peer}"),
            None => "a caller in the server's own process".to_owned(),
        }
    }
}

/// The time that a call has, from its headers.
pub(crate) fn timeout_in(headers: &HeaderMap) -> Option<Duration> {
    timeout(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        for nonsense in ["", "S", "5", "5x", "-5S", "123456789S", "5é"] {
            assert_eq!(timeout(nonsense), None, "{nonsense}");
        }
    }
}
