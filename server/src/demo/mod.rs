//! `foretell demo`: a simulated shop, sent over the real protocols to a real server.

/// Arguments of `foretell demo`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the demo.
///
/// # Errors
/// When the server cannot be started or stops answering.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("the demo is not part of this build")
}
