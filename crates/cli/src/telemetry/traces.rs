//! Export of spans by OTLP over gRPC, if the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables of
//! OpenTelemetry), and W3C trace context of callers and called services.

use std::{env, time::Duration};

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use runloom_engine::{Object, trace};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::failure::{Failure, Result};

/// The service name if `OTEL_SERVICE_NAME` is not set.
const NAME: &str = "runloom";
/// How long the export of the remaining spans may take when the program ends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The exporter of spans.
pub struct Traces {
    provider: SdkTracerProvider,
}

/// Starts the export of spans, if the environment asks for it.
pub fn start<S>() -> Result<(Option<Traces>, Option<Box<dyn Layer<S> + Send + Sync>>)>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
        || env::var("OTEL_TRACES_EXPORTER").is_ok_and(|value| value == "none");
    if is_off || !(is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) {
        return Ok((None, None));
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Ok(protocol) = env::var(name)
            && !["", "grpc"].contains(&protocol.trim())
        {
            let message =
                format!("{name} is `{protocol}`, but only `grpc` is supported; collectors listen for it on port 4317");
            return Err(Failure::usage(message));
        }
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .build()
        .map_err(|error| Failure::usage(format!("invalid OTEL_EXPORTER_OTLP_ENDPOINT: {error}")))?;
    let mut resource = Resource::builder();
    if !is_set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(NAME);
    }
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = resource.with_attribute(version).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    trace::carry_with(carried);
    trace::adopt_with(adopt);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(NAME))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(trace::TARGET, Level::INFO));
    Ok((Some(Traces { provider }), Some(spans.boxed())))
}

impl Traces {
    /// Exports the remaining spans.
    pub async fn stop(self) {
        // The call blocks its thread.
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(%error, "some spans were not exported");
        }
    }
}

/// The trace context of the current span.
fn carried() -> Object {
    let mut headers = Headers(Object::default());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.0
}

/// Makes a span a child of the caller's span.
fn adopt(span: &Span, context: &Object) {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(context.clone()));
    // If the context is invalid, the span starts a trace of its own.
    if parent.span().span_context().is_valid() {
        let _ = span.set_parent(parent);
    }
}

struct Headers(Object);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key, value);
        }
    }
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get_str(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| &**key).collect()
    }
}
