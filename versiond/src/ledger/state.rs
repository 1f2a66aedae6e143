//! The content of the ledger.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::{Generation, Nonce, Sha256, SlotId};
use versiond_core::catalog::Artifact;
use versiond_core::memory::Memory;

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
    /// What each slot remembers.
    #[serde(default)]
    pub slots: Vec<SlotMemory>,
    /// Bytes that an operator of this host does not let run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<Sha256>,
    /// What last served in each slot, as a ledger before `slots` has it. Read, and written no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) last_good: Vec<LastGood>,
}

impl Default for LedgerState {
    fn default() -> Self {
        Self {
            schema: LEDGER_SCHEMA,
            next_generation: 1,
            cordon: None,
            generations: Vec::new(),
            slots: Vec::new(),
            denied: BTreeSet::new(),
            last_good: Vec::new(),
        }
    }
}

impl LedgerState {
    /// What a slot remembers.
    #[must_use]
    pub fn memory(&self, slot: &SlotId) -> Memory {
        let known = self.slots.iter().find(|known| known.slot == *slot);
        known.map(|known| known.memory.clone()).unwrap_or_default()
    }

    /// Remembers that instead; a slot that remembers nothing is struck off.
    pub fn remember(&mut self, slot: &SlotId, memory: Memory) {
        self.slots.retain(|known| known.slot != *slot);
        if memory != Memory::default() {
            self.slots.push(SlotMemory { slot: slot.clone(), memory });
        }
    }

    /// What an earlier release wrote, in today's form.
    pub(super) fn migrated(mut self) -> LedgerState {
        for LastGood { slot, artifact } in std::mem::take(&mut self.last_good) {
            if !self.slots.iter().any(|known| known.slot == slot) {
                self.slots.push(SlotMemory { slot, memory: Memory::of(artifact) });
            }
        }
        self
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

/// What one slot remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMemory {
    #[serde(flatten)]
    pub slot: SlotId,
    pub memory: Memory,
}

/// The release that last served in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastGood {
    slot: SlotId,
    artifact: Artifact,
}
