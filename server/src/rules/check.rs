//! `foretell check rules`: what a server would say of rule files.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Settings, load};
use crate::config::Config;
use crate::serve::say;

/// `foretell check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check Prometheus rule files without a server
    #[command(after_help = "Exit codes: 0 all files can be used, 1 one cannot.\n\n\
        Examples:\n  \
        foretell check rules rules/*.yml")]
    Rules {
        /// Rule files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl CheckArgs {
    /// Checks, and says what is wrong.
    pub(crate) fn run(&self) -> ExitCode {
        let What::Rules { files } = &self.what;
        let defaults = Settings::new(&Config::default()).defaults;
        let mut code = ExitCode::SUCCESS;
        for file in files {
            match load(&[file.to_string_lossy().into_owned()], &defaults) {
                Ok(groups) => {
                    let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
                    say(&format!("{}: {} groups, {rules} rules", file.display(), groups.len()));
                }
                Err(error) => {
                    error.0.iter().for_each(|fault| say(fault));
                    code = ExitCode::FAILURE;
                }
            }
        }
        code
    }
}
