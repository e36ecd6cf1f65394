//! Compiles `proto/` into the types, clients and servers of `runloom::v1`, and into the descriptors that reflection serves. Needs no protoc.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

/// The files with a service bring in all the others.
const PROTOS: [&str; 9] = [
    "runloom/v1/assistants.proto",
    "runloom/v1/crons.proto",
    "runloom/v1/error_reason.proto",
    "runloom/v1/graphs.proto",
    "runloom/v1/keys.proto",
    "runloom/v1/runs.proto",
    "runloom/v1/store.proto",
    "runloom/v1/threads.proto",
    "runloom/v1/workers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(out.join("method_scopes.rs"), scopes(&compiler.descriptor_pool())?)?;

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

/// The scope of each method, from its option `runloom.v1.scope`: a sorted list of paths and scopes. A method without one does not compile.
fn scopes(pool: &protox::prost_reflect::DescriptorPool) -> Result<String, Box<dyn Error>> {
    let extension = pool.get_extension_by_name("runloom.v1.scope").ok_or("scope.proto has no `scope`")?;
    let mut scopes = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let options = method.options();
            let scope = options.get_extension(&extension);
            let scope = scope.as_str().filter(|scope| !scope.is_empty()).ok_or(format!("{path} has no scope"))?;
            scopes.push((path, scope.to_owned()));
        }
    }
    scopes.sort();
    Ok(format!("&{scopes:?}"))
}
