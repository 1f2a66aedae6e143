//! What several commands take alike: the output's form, a slot, a hash.

use clap::Args;
use supervisor_protocol::{NameError, ServiceName, SlotId, VersionName};

/// The form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print the daemon's answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("expected SERVICE/VERSION")]
    Shape,
    #[error(transparent)]
    Name(#[from] NameError),
}

/// `SERVICE/VERSION`, as every table shows it.
pub(crate) fn slot(text: &str) -> Result<SlotId, SlotError> {
    let (service, name) = text.split_once('/').ok_or(SlotError::Shape)?;
    Ok(SlotId { service: ServiceName::new(service)?, name: VersionName::new(name)? })
}
