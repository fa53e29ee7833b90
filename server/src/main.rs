//! `foretell`: wiring only.
use std::process::ExitCode;

use clap::Parser as _;
use foretell_server::command::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    small_pages();
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("foretell: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Switches huge pages off: where the threads of a query, a flush or a request touch a little of one, the kernel clears all of its
/// 2 MiB. Without them ingest takes a fifth less time and a third less memory (docs/decisions/0021).
fn small_pages() {
    // Without it everything works, only slower.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
