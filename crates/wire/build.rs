//! Generates the stubs of `proto/` with a compiler written in Rust: no `protoc` is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/agent.proto"], ["proto"]).expect("proto/agent.proto compiles");
    tonic_prost_build::configure().compile_fds(descriptors).expect("stubs are generated from valid descriptors");
}
