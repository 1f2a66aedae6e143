//! The command line.

use std::net::SocketAddr;

use camino::Utf8PathBuf;
use clap::Parser;

/// Bad usage, or a configuration that is not one.
pub const EXIT_USAGE: u8 = 64;

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
