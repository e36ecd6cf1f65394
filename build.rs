//! Compiles `proto/` into the types, clients and servers of `runloom::v1`, and into the descriptors that reflection serves. Needs no protoc.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

/// The files with a service bring in all the others.
const PROTOS: [&str; 8] = [
    "runloom/v1/assistants.proto",
    "runloom/v1/crons.proto",
    "runloom/v1/error_reason.proto",
    "runloom/v1/graphs.proto",
    "runloom/v1/runs.proto",
    "runloom/v1/store.proto",
    "runloom/v1/threads.proto",
    "runloom/v1/workers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;

    // Reflection wants the imports too, but not the comments, which are most of the bytes.
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(out.join("runloom_descriptors.bin"), bare.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        // Every part of every stream is moved around: this field alone would make all of them half as large again.
        .boxed(".runloom.v1.EventData.message_chunk")
        .extern_path(".google.rpc", "::tonic_types")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
