//! The labels of the daemon's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use supervisor_protocol::SlotId;
use versiond_core::memory::RollbackCause;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotPhase {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotReason {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotCause {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotLabel {
    pub(super) service: String,
    pub(super) version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotClass {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotSwap {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) strategy: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotStrategy {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) strategy: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SlotExit {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) by: &'static str,
    pub(super) number: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GenerationClass {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) phase: &'static str,
    pub(super) class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GenerationLabel {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GenerationInfo {
    pub(super) service: String,
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) phase: &'static str,
    /// The first twelve digits of the artifact's hash.
    pub(super) sha12: String,
    /// As the child describes itself.
    pub(super) binary_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct IsolationLabel {
    pub(super) processes: &'static str,
    pub(super) users: &'static str,
    pub(super) socket_ownership: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabel {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabel {
    pub(super) code: String,
}

pub(super) fn names(slot: &SlotId) -> (String, String) {
    (slot.service.to_string(), slot.name.to_string())
}

pub(super) fn slot_label(slot: &SlotId) -> SlotLabel {
    let (service, version) = names(slot);
    SlotLabel { service, version }
}

pub(super) fn slot_cause(slot: &SlotId, cause: RollbackCause) -> SlotCause {
    let (service, version) = names(slot);
    SlotCause { service, version, cause: cause.as_str() }
}
