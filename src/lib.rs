//! The gRPC API of Runloom: the generated types, and a typed client whose streams rejoin by themselves.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use runloom::{Client, v1::{RunSpec, StreamMode, stream_run_response::Payload}};
//!
//! # async fn example() -> Result<(), runloom::Error> {
//! let client = Client::connect("127.0.0.1:50051").await?;
//! let run = RunSpec::graph("agent")
//!     .with_input(serde_json::json!({"messages": [{"role": "user", "content": "hi"}]}))
//!     .with_modes([StreamMode::Messages, StreamMode::Values]);
//! let mut parts = client.stream_run(run);
//! while let Some(part) = parts.next().await {
//!     match part?.payload {
//!         Some(Payload::MessageChunk(chunk)) => println!("{}: {:?}", chunk.node, chunk.content),
//!         Some(Payload::End(end)) => end.into_result()?,
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | [`v1`] | every message, enum, client and server of package `runloom.v1` |
//! | [`client`] | [`Client`] and [`RunStream`] |
//! | [`json`] | conversion between `Json` and `serde_json::Value` |
//! | [`reason`] | [`v1::ErrorReason`] with its names and status codes |

pub mod client;
mod error;
pub mod json;
pub mod reason;
mod run_spec;

pub use client::{Client, ClientOptions, ClientTls, Credentials, RetryPolicy, RunStream};
pub use error::{Error, FieldViolation};

/// Package `runloom.v1`, generated from `proto/runloom/v1`; its comments are the reference.
///
/// `google.rpc.Status` is [`tonic_types::Status`]; well-known types are those of `prost_types`.
#[allow(clippy::all)]
pub mod v1 {
    tonic::include_proto!("runloom.v1");
}

/// The descriptors of `runloom.v1` and its imports: an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("runloom_descriptors");

/// The path of each RPC (`/runloom.v1.Runs/GetRun`) with the scope that a caller needs for it, sorted by path.
pub const METHOD_SCOPES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/method_scopes.rs"));

/// The scope that a caller needs for an RPC. `None`: the path is not one of `runloom.v1`.
pub fn scope_of(path: &str) -> Option<&'static str> {
    let at = METHOD_SCOPES.binary_search_by(|(known, _)| (*known).cmp(path)).ok()?;
    METHOD_SCOPES.get(at).map(|(_, scope)| *scope)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    /// Reflection needs all files that the services use, and no comments.
    #[test]
    fn descriptors_are_whole() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let services: Vec<_> = set.file.iter().flat_map(|file| &file.service).map(|service| service.name()).collect();
        assert_eq!(services.len(), 8, "{services:?}");
        for import in set.file.iter().flat_map(|file| &file.dependency) {
            assert!(set.file.iter().any(|file| file.name() == import), "{import} is missing");
        }
        assert!(set.file.iter().all(|file| file.source_code_info.is_none()));
    }
}
