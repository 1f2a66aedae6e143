//! The versiond-router program: which configuration, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use versiond_router::cli::{Cli, EXIT_USAGE};
use versiond_router::config::{self, Config};
use versiond_router::run;

/// With thousands of streams that come and go, the C library's allocator grows for minutes: what is freed lies in pieces
/// between what lives.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; clap knows which stream each belongs on.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let read = || -> Result<Config, config::ConfigError> { config::of(&cli) };
    let config = match read() {
        Ok(config) => config,
        Err(error) => return report(&error, EXIT_USAGE),
    };
    if cli.check {
        return say(&config);
    }
    match run::init_logging().and_then(|()| run::run(config, &cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(error.as_ref(), 1),
    }
}

#[allow(clippy::print_stdout, reason = "it is what was asked for")]
fn say(config: &Config) -> ExitCode {
    print!("{config}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "logging may not have begun")]
fn report(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    eprintln!("versiond-router: {}", config::chain(error));
    ExitCode::from(code)
}
