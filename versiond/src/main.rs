//! The versiond program: which command, and nothing else.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::Parser as _;
use versiond::cli::{Cli, Command, EXIT_USAGE};
use versiond::faults::Faults;
use versiond::reload::Origin;
use versiond::{check, config, import, process, run};

/// With thousands of streams that come and go, the C library's allocator grows for minutes: what is freed lies in pieces
/// between what lives.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == process::launch::SUBCOMMAND) {
        return process::launch::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; clap knows which stream each belongs on.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let env = std::env::vars().collect();
    match cli.command {
        #[cfg(feature = "faults")]
        Command::Run { config, fault, crash_at } => {
            if let Some(point) = crash_at {
                versiond::faults::crash::arm(point);
            }
            supervise(config, &env, Faults::one(fault))
        }
        #[cfg(feature = "faults")]
        Command::Effects => effects(),
        #[cfg(not(feature = "faults"))]
        Command::Run { config } => supervise(config, &env, Faults::default()),
        Command::Check { config } => check::main(config.as_deref(), &env),
        Command::ImportUpstream { directory, service, dry_run, config } => {
            import::main(config.as_deref(), &env, directory.as_std_path(), service, dry_run)
        }
    }
}

fn supervise(path: Option<Utf8PathBuf>, env: &config::Env, faults: Faults) -> ExitCode {
    process::stay_small();
    let config = match config::load(path.as_deref(), env) {
        Ok(config) => config,
        Err(error) => return report(&error),
    };
    match run::init_logging().and_then(|()| run::run(config, Origin { path, env: env.clone() }, faults)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(error.as_ref()),
    }
}

#[cfg(feature = "faults")]
#[allow(clippy::print_stdout, reason = "it is what was asked for")]
fn effects() -> ExitCode {
    println!("{}", versiond::faults::crash::EFFECTS.join("\n"));
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "the error of a command belongs on its standard error")]
fn report(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("versiond: {}", run::chain(error));
    ExitCode::FAILURE
}
