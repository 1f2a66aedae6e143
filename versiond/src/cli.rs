//! The command line of `versiond`, as a value: for the program itself and for its manual page.

use camino::Utf8PathBuf;
use clap::{CommandFactory as _, Parser, Subcommand};
use supervisor_protocol::ServiceName;

/// A supervisor that rolls versioned child processes without cutting a request.
#[derive(Debug, Parser)]
#[command(name = "versiond", version = VERSION, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Supervise the services that the configuration names, until SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, env = "VERSIOND_CONFIG")]
        config: Option<Utf8PathBuf>,
        /// Break one guard on purpose, to see that a check notices.
        #[cfg(feature = "faults")]
        #[arg(long)]
        fault: Option<crate::faults::Fault>,
        /// Die at this point: EFFECT:before or EFFECT:after, and the passage that counts.
        #[cfg(feature = "faults")]
        #[arg(long, value_name = "EFFECT:SIDE[:N]")]
        crash_at: Option<crate::faults::crash::Point>,
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

/// Everything was done, or nothing is wrong.
pub const EXIT_OK: u8 = 0;
/// It cannot run like this; standard error says why.
pub const EXIT_FAILED: u8 = 1;
/// The command line was not understood.
pub const EXIT_USAGE: u8 = 64;

/// Each with its meaning, for the manual page.
pub const EXIT_CODES: [(u8, &str); 3] = [
    (EXIT_OK, "run: stopped by a signal, and everything is stopped; check: it can run, perhaps with warnings"),
    (
        EXIT_FAILED,
        "run: it could not start; check: it cannot run like this; import-upstream: something was refused; the reason is printed",
    ),
    (EXIT_USAGE, "the command line is wrong"),
];

/// The command line as a value.
#[must_use]
pub fn cli() -> clap::Command {
    Cli::command()
}
