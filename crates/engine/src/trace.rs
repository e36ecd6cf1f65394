//! The trace that work is part of, for whoever is called outside: W3C's trace context.
//!
//! The engine knows no tracing library. A program that traces says once how the context of what is under way is told
//! ([`carry_with`]); who calls a model or a tool asks for it ([`carried`]) and sends it along.

use std::sync::OnceLock;

use crate::{Object, Value};

/// Tells the trace context of what is under way where it is called: `traceparent`, and `tracestate` where there is one.
pub type Carrier = fn() -> Object;

static CARRIER: OnceLock<Carrier> = OnceLock::new();

/// Sets how trace context is told, for this process. The first one counts; true for it.
pub fn carry_with(carrier: Carrier) -> bool {
    CARRIER.set(carrier).is_ok()
}

/// The trace context of what is under way here, as headers by name; empty where nothing is traced.
pub fn carried() -> Object {
    let told = CARRIER.get().map(|carrier| carrier()).unwrap_or_default();
    let is_header =
        |name: &str, value: &Value| ["traceparent", "tracestate"].contains(&name) && value.as_str().is_some();
    told.iter()
        .filter(|(name, value)| is_header(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
