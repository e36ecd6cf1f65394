//! The three streams, with a codec of their own: what is sent is encoded in part already, so it is no generated message.
//!
//! Each generated server stands behind a [`Streams`], which takes the calls of its streams and hands on all others.

use std::{
    convert::Infallible,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use prost::Message;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{BufferSettings, Codec, CompressionEncoding, EncodeBuf, Encoder},
    codegen::Service,
    server::{Grpc, NamedService},
};

use crate::{frames::Frames, parts::Part, server::layer::ACCEPT_ENCODING, services::Api, stream::Parts};

/// How much is gathered before it is sent on, and how much a silent stream holds for that.
const YIELD_BYTES: usize = 32 << 10;
const BUFFER_BYTES: usize = 4 << 10;

/// A generated server, and the streams it would serve.
#[derive(Clone)]
pub(crate) struct Streams<S> {
    inner: S,
    api: Arc<Api>,
    limits: Limits,
}

/// What the generated servers are set to as well.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub max_request_bytes: usize,
    pub gzip: bool,
}

impl<S> Streams<S> {
    pub fn new(inner: S, api: Arc<Api>, limits: Limits) -> Self {
        Self { inner, api, limits }
    }
}

impl<S: NamedService> NamedService for Streams<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Streams<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (api, limits) = (self.api.clone(), self.limits);
        match request.uri().path() {
            "/runloom.v1.Runs/StreamRun" => serve(limits, request, move |r| api.clone().open_run(r).boxed()),
            "/runloom.v1.Runs/JoinRun" => serve(limits, request, move |r| api.clone().open_join(r).boxed()),
            "/runloom.v1.Threads/StreamThread" => serve(limits, request, move |r| api.clone().open_thread(r).boxed()),
            _ => self.inner.call(request).boxed(),
        }
    }
}

/// Serves one call of a stream.
fn serve<R, F>(
    limits: Limits,
    request: http::Request<Body>,
    open: F,
) -> BoxFuture<'static, Result<http::Response<Body>, Infallible>>
where
    R: Message + Default + Send + 'static,
    F: Fn(Request<R>) -> BoxFuture<'static, Result<Response<Parts>, Status>> + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(PartCodec(PhantomData)).max_decoding_message_size(limits.max_request_bytes);
    if limits.gzip {
        grpc = grpc.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip);
    }
    // The layer around leaves this header only to callers whose answers are compressed.
    if limits.gzip && request.headers().contains_key(ACCEPT_ENCODING) {
        return async move { Ok(grpc.server_streaming(tower::service_fn(open), request).await) }.boxed();
    }
    // tonic reads the request and writes the headers of the answer. The body is put in its place afterwards.
    let opened = Arc::new(Mutex::new(None));
    let slot = opened.clone();
    let open = move |request: Request<R>| {
        let (opening, slot) = (open(request), slot.clone());
        async move {
            let (metadata, parts, extensions) = opening.await?.into_parts();
            *slot.lock() = Some(parts);
            Ok::<_, Status>(Response::from_parts(metadata, stream::empty(), extensions))
        }
    };
    async move {
        let response = grpc.server_streaming(tower::service_fn(open), request).await;
        Ok(match opened.lock().take() {
            Some(parts) => response.map(|_| Body::new(Frames::new(parts))),
            None => response,
        })
    }
    .boxed()
}

/// Takes a generated message, sends [`Part`]s.
struct PartCodec<R>(PhantomData<R>);

impl<R: Message + Default + Send + 'static> Codec for PartCodec<R> {
    type Encode = Part;
    type Decode = R;
    type Encoder = PartEncoder;
    type Decoder = tonic_prost::ProstDecoder<R>;

    fn encoder(&mut self) -> PartEncoder {
        PartEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::default()
    }
}

struct PartEncoder;

impl Encoder for PartEncoder {
    type Item = Part;
    type Error = Status;

    fn encode(&mut self, part: Part, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        part.encode(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
