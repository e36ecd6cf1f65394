//! Measures, of a release build: `cargo test --release -p runloom-service --test measure -- --ignored --nocapture`.
//!
//! A stream of tokens next to a bare tonic stream of the same bytes; a large state read by many.
//! Clients do not decode what they read: it is the server that is measured.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{convert::Infallible, sync::Arc, time::Instant};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use runloom::v1::{self, JoinRunRequest, JsonEncoding, StreamMode, StreamRunRequest};
use runloom_service::listen;
use runloom_store_memory::MemoryStore;
use serde_json::json;
use support::*;
use tonic::{
    Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::Service,
    server::{Grpc, NamedService},
    transport::Channel,
};

const TOKENS: usize = 200_000;

/// Sends the same bytes over and over, to whatever call.
#[derive(Clone)]
struct Bare(Bytes, usize);

impl NamedService for Bare {
    const NAME: &'static str = "runloom.v1.Runs";
}

impl Service<http::Request<tonic::body::Body>> for Bare {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (bytes, count) = (self.0.clone(), self.1);
        let open = move |_: Request<StreamRunRequest>| {
            let items = std::iter::repeat_n(bytes.clone(), count).map(Ok::<_, Status>);
            std::future::ready(Ok::<_, Status>(Response::new(futures_util::stream::iter(items))))
        };
        let mut grpc = Grpc::new(Raw);
        Box::pin(async move { Ok(grpc.server_streaming(tower::service_fn(open), request).await) })
    }
}

struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = StreamRunRequest;
    type Encoder = Raw;
    type Decoder = tonic_prost::ProstDecoder<StreamRunRequest>;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::default()
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

/// Reads a stream without decoding it: how many messages, and how many bytes.
async fn drain<R: Message + Default + 'static>(channel: &Channel, path: &'static str, request: R) -> (usize, usize) {
    let mut grpc = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    std::future::poll_fn(|cx| channel.clone().poll_ready(cx)).await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let request = Request::new(Bytes::from(request.encode_to_vec()));
    let mut stream = grpc.server_streaming(request, path, Undecoded).await.unwrap().into_inner();
    let (mut count, mut bytes) = (0, 0);
    while let Some(len) = stream.message().await.unwrap() {
        count += 1;
        bytes += len;
    }
    (count, bytes)
}

struct Undecoded;

impl Codec for Undecoded {
    type Encode = Bytes;
    type Decode = usize;
    type Encoder = Raw;
    type Decoder = Undecoded;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Undecoded {
        Undecoded
    }
}

impl Decoder for Undecoded {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let len = buf.remaining();
        buf.advance(len);
        Ok(Some(len))
    }
}

const STREAM_RUN: &str = "/runloom.v1.Runs/StreamRun";
const JOIN_RUN: &str = "/runloom.v1.Runs/JoinRun";

fn rate(what: &str, count: usize, since: Instant) -> f64 {
    let rate = count as f64 / since.elapsed().as_secs_f64();
    println!("{what}: {count} parts, {:.0} a second", rate);
    rate
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measure"]
async fn tokens() {
    let test = start_with(|builder| builder.store(Arc::new(MemoryStore::new()))).await;
    let ask = |count: usize| {
        let tokens: Vec<_> = (0..count).map(|n| format!("token{n} ")).collect();
        let run = run(json!([{ "say": tokens }])).with_modes([StreamMode::Messages]);
        StreamRunRequest { run: Some(run), json_encoding: JsonEncoding::Text.into(), ..Default::default() }
    };
    let mut live: f64 = 0.0;
    drain(&test.channel, STREAM_RUN, ask(TOKENS / 10)).await;
    for _ in 0..3 {
        let request = ask(TOKENS);
        let since = Instant::now();
        let (count, _) = drain(&test.channel, STREAM_RUN, request).await;
        live = live.max(rate("a run, live", count, since));
    }
    let run = test.client.list_runs(v1::ListRunsRequest::default()).await.unwrap().runs.remove(0);
    let join = || JoinRunRequest { run_id: run.run_id.clone(), ..Default::default() };
    let mut bytes = 0;
    for _ in 0..3 {
        let since = Instant::now();
        let (count, all) = drain(&test.channel, JOIN_RUN, join()).await;
        rate("a run, from its log", count, since);
        bytes = all / count;
    }

    println!("parts of {bytes} bytes");
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let bare = Bare(vec![7; bytes].into(), TOKENS);
    tokio::spawn(tonic::transport::Server::builder().add_service(bare).serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        let since = Instant::now();
        let (count, _) = drain(&channel, STREAM_RUN, StreamRunRequest::default()).await;
        best = best.max(rate("bare", count, since));
    }
    println!("live is {:.2} of bare", live / best);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measure"]
async fn a_large_state_for_many() {
    let test = start().await;
    let items: Vec<_> = (0..20_000).map(|n| json!({"n": n, "text": format!("item {n} of many")})).collect();
    let spec = run(json!([{"set": items}])).with_modes([StreamMode::Values]);
    let id = test.client.create_run(spec).await.unwrap().run_id;
    test.client.wait_run(id.as_str()).await.unwrap();
    for encoding in [JsonEncoding::Text, JsonEncoding::Value] {
        for readers in [1, 50] {
            let join = JoinRunRequest {
                run_id: id.clone(),
                json_encoding: encoding.into(),
                max_part_bytes: 32 << 20,
                ..Default::default()
            };
            let mut channels = Vec::new();
            for _ in 0..readers {
                channels.push(channel(test.handle.as_ref().unwrap()).await);
            }
            let since = Instant::now();
            let reading = channels.iter().map(|channel| drain(channel, JOIN_RUN, join.clone()));
            let bytes: usize = futures_util::future::join_all(reading).await.into_iter().map(|(_, bytes)| bytes).sum();
            println!("{encoding:?}, {readers} readers: {} MiB in {:?}", bytes >> 20, since.elapsed());
        }
    }
}
