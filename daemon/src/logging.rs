//! The log of a daemon: lines on standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Logs to standard error; `VERSIOND_LOG`, else `RUST_LOG`, chooses what (default `info`).
///
/// # Errors
/// The filter is not one.
pub fn init_logging() -> anyhow::Result<()> {
    let set = |name| std::env::var(name).ok().filter(|filter| !filter.is_empty()).map(|filter| (name, filter));
    let filter = match set("VERSIOND_LOG").or_else(|| set("RUST_LOG")) {
        Some((name, filter)) => EnvFilter::try_new(&filter).with_context(|| format!("{name}={filter:?}"))?,
        None => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A line that cannot be written is lost; to say so in the same place would be a panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
