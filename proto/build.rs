//! Compiles the `.proto` files without protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 4] = [
    "mediad/v1/graph.proto",
    "mediad/v1/event.proto",
    "mediad/v1/media.proto",
    "mediad/v1/host.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .btree_map(".")
        // Whatever is logged, keys are not: its `Debug` is written by hand.
        .skip_debug(["mediad.v1.SdesKey"])
        .compile_fds(descriptors)?;
    // Also what these files import.
    println!("cargo:rerun-if-changed=mediad");
    Ok(())
}
