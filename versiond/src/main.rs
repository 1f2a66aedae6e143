//! The versiond program: its command line, and nothing else.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use supervisor_protocol::ServiceName;
use versiond::faults::Faults;
use versiond::reload::Origin;
use versiond::{check, config, import, process, run};

/// A supervisor that rolls versioned child processes without cutting a request.
#[derive(Parser)]
#[command(name = "versiond", version = VERSION, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Supervise the services that the configuration names, until SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, env = "VERSIOND_CONFIG")]
        config: Option<Utf8PathBuf>,
        /// Break one guard on purpose, to see that a check notices.
        #[cfg(feature = "faults")]
        #[arg(long)]
        fault: Option<versiond::faults::Fault>,
        /// Die at this point: EFFECT:before or EFFECT:after, and the passage that counts.
        #[cfg(feature = "faults")]
        #[arg(long, value_name = "EFFECT:SIDE[:N]")]
        crash_at: Option<versiond::faults::crash::Point>,
    },
    /// List the effects that `--crash-at` knows.
    #[cfg(feature = "faults")]
    Effects,
    /// Validate the configuration, print every value with its origin and the time budget, bind nothing.
    Check {
        /// The configuration file.
        #[arg(long, env = "VERSIOND_CONFIG")]
        config: Option<Utf8PathBuf>,
    },
    /// Take over what upstream's supervisor has installed below DIR, and its data, while versiond is stopped.
    /// Nothing there is changed. Exit code 1 when something was refused.
    ImportUpstream {
        /// The folder with upstream's `bin` and `data`.
        directory: Utf8PathBuf,
        /// Whose versions the names are; the configuration's only service when it has one.
        #[arg(long)]
        service: Option<ServiceName>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// The configuration file.
        #[arg(long, env = "VERSIOND_CONFIG")]
        config: Option<Utf8PathBuf>,
    },
}

/// With the features of the build, so that a release can be told from a build for tests.
#[cfg(feature = "faults")]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (features: faults)");
#[cfg(not(feature = "faults"))]
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Exit code: the command line was not understood.
const EXIT_USAGE: u8 = 64;

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
