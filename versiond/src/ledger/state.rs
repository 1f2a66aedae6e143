//! The content of the ledger.

use serde::{Deserialize, Serialize};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::{Generation, Nonce, Sha256, SlotId};
use versiond_core::catalog::Artifact;

use crate::process::ProcessId;

/// The version of the content. A newer one is refused.
pub const LEDGER_SCHEMA: u32 = 1;

/// Everything that outlives the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    pub schema: u32,
    /// The number of the next generation. It never goes back.
    pub next_generation: u64,
    /// The host is cordoned, until an operator says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<DrainMode>,
    /// The generations that may have a process.
    #[serde(default)]
    pub generations: Vec<LedgerGeneration>,
    /// What last served in each slot.
    #[serde(default)]
    pub last_good: Vec<LastGood>,
}

impl Default for LedgerState {
    fn default() -> Self {
        Self { schema: LEDGER_SCHEMA, next_generation: 1, cordon: None, generations: Vec::new(), last_good: Vec::new() }
    }
}

/// One generation that may have a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerGeneration {
    pub slot: SlotId,
    pub generation: Generation,
    pub sha256: Sha256,
    pub nonce: Nonce,
    /// Written before the process executes anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The release that last served in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    pub slot: SlotId,
    pub artifact: Artifact,
}
