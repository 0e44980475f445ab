//! Compiles the interface with protox, so that building needs no `protoc`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

/// Directory of the interface files, from this package.
const PROTO_ROOT: &str = "../../proto/cri";
/// The interface file, from [`PROTO_ROOT`].
const INTERFACE: &str = "runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}/{INTERFACE}");
    println!("cargo::rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file(INTERFACE)?;

    let out = env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out).join("cri.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Records and reports that are written from messages come out in the same order each time.
        .btree_map(".")
        // Holds passwords and tokens: lib.rs has a Debug that hides them.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
