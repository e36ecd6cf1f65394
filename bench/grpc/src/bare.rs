//! A tonic server that has nothing to do but send bytes that are there: what gRPC itself costs. It answers under the path of StreamRun.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use futures_util::{FutureExt, future::BoxFuture, stream};
use runloom::v1::StreamRunRequest;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    codegen::Service,
    server::{Grpc, NamedService},
    transport::server::TcpIncoming,
};
use tonic_prost::ProstDecoder;

/// Answers every call with the same messages.
#[derive(Clone)]
struct Bare(Vec<Bytes>);

impl NamedService for Bare {
    const NAME: &'static str = "runloom.v1.Runs";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let messages = self.0.clone();
        let open = move |_: Request<StreamRunRequest>| {
            let messages = stream::iter(messages.clone().into_iter().map(Ok));
            async move { Ok::<_, Status>(Response::new(messages)) }
        };
        async move { Ok(Grpc::new(AsTheyAre).server_streaming(tower::service_fn(open), request).await) }.boxed()
    }
}

/// Takes a request, sends bytes.
struct AsTheyAre;

impl Codec for AsTheyAre {
    type Encode = Bytes;
    type Decode = StreamRunRequest;
    type Encoder = Self;
    type Decoder = ProstDecoder<StreamRunRequest>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for AsTheyAre {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(message);
        Ok(())
    }
}

/// Serves these messages. Gives the address.
pub async fn serve(messages: Vec<Bytes>) -> Result<String, String> {
    let listener = runloom_service::listen("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?.to_string();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(tonic::transport::Server::builder().add_service(Bare(messages)).serve_with_incoming(incoming));
    Ok(address)
}
