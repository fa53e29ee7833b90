//! Compiles the `.proto` files with protox: no `protoc`, no network, the same output for the same input.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "proto/prometheus/v1.proto",
        "proto/prometheus/v2.proto",
        "proto/opentelemetry/metrics_service.proto",
        "proto/opentelemetry/logs_service.proto",
        "proto/opentelemetry/trace_service.proto",
        "proto/foretell/subscriptions.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
