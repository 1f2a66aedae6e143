//! What several commands take alike: the output's form, a slot, a hash.

use clap::Args;
use supervisor_protocol::{SlotId, SlotIdError};

/// The form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print the daemon's answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `SERVICE/VERSION`, as every table shows it.
pub(crate) fn slot(text: &str) -> Result<SlotId, String> {
    // The command line shows one line, and the cause belongs into it.
    text.parse().map_err(|error: SlotIdError| supervisor_protocol::error::chain(&error))
}
