//! `foretell`: wiring only.
use std::process::ExitCode;

use clap::Parser as _;
use foretell_server::command::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("foretell: {error:#}");
            ExitCode::FAILURE
        }
    }
}
