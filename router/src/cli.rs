//! The command line.

use std::net::SocketAddr;

use camino::Utf8PathBuf;
use clap::{CommandFactory as _, Parser};

/// Everything was done, or nothing is wrong.
pub const EXIT_OK: u8 = 0;
/// It cannot run like this; standard error says why.
pub const EXIT_FAILED: u8 = 1;
/// Bad usage, or a configuration that is not one.
pub const EXIT_USAGE: u8 = 64;

/// Each with its meaning, for the manual page.
pub const EXIT_CODES: [(u8, &str); 3] = [
    (EXIT_OK, "stopped by a signal, and everything is stopped; with --check: the configuration is one"),
    (EXIT_FAILED, "it could not start; the reason is printed"),
    (EXIT_USAGE, "the command line or the configuration is wrong; what and where is printed"),
];

/// Spreads requests over hosts, each session on its own, and empties hosts for maintenance.
///
/// With --upstreams it needs no file: one pool that every path leads to.
#[derive(Debug, Parser)]
#[command(name = "versiond-router", version)]
pub struct Cli {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "VERSIOND_ROUTER_CONFIG", conflicts_with_all = ["upstreams", "listen", "key"])]
    pub config: Option<Utf8PathBuf>,
    /// Where clients come to
    #[arg(long, value_name = "ADDRESS", requires = "upstreams")]
    pub listen: Option<SocketAddr>,
    /// The hosts of the one pool: `address` or `name=address`, separated by commas
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub upstreams: Vec<String>,
    /// What of a path is its key, as in `/{version}/sessions/{session}`; of any other path all of it
    #[arg(long, value_name = "PATTERN", requires = "upstreams")]
    pub key: Option<String>,
    /// Threads that forward [default: one for each core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Read the configuration, say what is wrong with it, and end
    #[arg(long)]
    pub check: bool,
}

/// The command line as a value.
#[must_use]
pub fn cli() -> clap::Command {
    Cli::command()
}
