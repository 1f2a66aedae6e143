//! What the store is kept for: gathers what every slot needs, removes what nothing does, fetches ahead.
//!
//! Lives here: the questions to the catalog, the board and the ledger. Must not live here: the rule of what may
//! go (that is the store's, and pure), or what a slot wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use supervisor_protocol::admin::{
    ArtifactList, ArtifactRole, ArtifactState, ArtifactStatus, ArtifactUse, FetchRequest, GcReport, Phase,
};
use supervisor_protocol::{SCHEMA, ServiceName, Sha256, SlotId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use versiond_core::catalog::{Artifact, UrlRefusal, UrlRules};

use crate::board::Board;
use crate::catalog::CatalogView;
use crate::ledger::LedgerState;
use crate::store::{Mode, Store, StoreError, Uses};
use crate::supervisor::{Recorder, chain};

/// How often the store is looked through without a cause.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);
/// Between a change and the look for what it has left over: several often come together.
const SETTLE: Duration = Duration::from_secs(5);

/// Looks after the store of the host.
pub(crate) struct Keeper {
    pub(crate) store: Arc<Store>,
    pub(crate) board: Arc<Board>,
    pub(crate) recorder: Recorder,
    pub(crate) catalog: watch::Receiver<CatalogView>,
    /// Which addresses an operator may name: those that a catalog may.
    pub(crate) rules: UrlRules,
    /// The program in the archives of each service, by the configuration.
    pub(crate) entries: BTreeMap<ServiceName, Option<String>>,
    /// Where fetches run, whoever asks for them.
    pub(crate) runtime: Handle,
}

/// Why nothing is fetched ahead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    #[error("{0}")]
    Slot(String),
    #[error("there is no slot {0}, or nothing that it wants")]
    Unknown(SlotId),
    #[error("the address may not be used")]
    Address(#[source] UrlRefusal),
    #[error("the store cannot be read")]
    Store(#[source] StoreError),
}

impl Keeper {
    /// Every artifact that is known of.
    pub(crate) async fn list(&self) -> Result<ArtifactList, StoreError> {
        Ok(ArtifactList { schema: SCHEMA, artifacts: self.store.list(&self.uses().await).await? })
    }

    /// Removes what nothing needs, or says what would be.
    pub(crate) async fn collect(&self, mode: Mode) -> Result<GcReport, StoreError> {
        let since = self.store.now();
        let report = self.store.collect(self.uses().await, since, mode).await?;
        if mode == Mode::Remove {
            for gone in &report.removed {
                tracing::info!(sha256 = %gone.sha256, bytes = gone.bytes, why = ?gone.why, "removed from the store");
            }
        }
        Ok(report)
    }

    /// Begins to fetch ahead; what comes of it shows in the list. An operator's word ends the pause of what has
    /// failed.
    pub(crate) async fn fetch(&self, request: FetchRequest) -> Result<ArtifactStatus, NotFetched> {
        let (artifact, entry) = match request {
            FetchRequest::Slot { slot } => {
                let slot: SlotId = crate::admin::parse_slot(&slot).map_err(NotFetched::Slot)?;
                let artifact = self.wanted(&slot).ok_or_else(|| NotFetched::Unknown(slot.clone()))?;
                (artifact, self.entries.get(&slot.service).cloned().flatten())
            }
            FetchRequest::Address { url, sha256, entry } => {
                UrlRules { file: false, ..self.rules }.check(&url).map_err(NotFetched::Address)?;
                (Artifact { sha256, urls: vec![url], size: None, entry, irreversible: false }, None)
            }
        };
        let sha256 = artifact.sha256;
        self.store.forgive(sha256);
        let store = self.store.clone();
        self.runtime.spawn(async move {
            match store.ensure(&artifact, entry.as_deref(), &|_, _| {}).await {
                Ok(_) => tracing::info!(%sha256, "fetched ahead"),
                Err(error) => tracing::warn!(%sha256, error = chain(&error), "not fetched ahead"),
            }
        });
        let all = self.list().await.map_err(NotFetched::Store)?.artifacts;
        let nothing = ArtifactStatus {
            sha256,
            state: ArtifactState::Absent,
            size: 0,
            received: None,
            total: None,
            used: Vec::new(),
            reason: None,
        };
        Ok(all.into_iter().find(|one| one.sha256 == sha256).unwrap_or(nothing))
    }

    /// Looks through the store whenever a change has come to its end, and daily, until the catalog ends with the
    /// host.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut changes = self.board.changes();
        let (mut last, mut daily) = (None, Instant::now() + DAILY);
        let mut catalog = self.catalog.clone();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = catalog.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(daily) => {}
            }
            tokio::time::sleep(SETTLE).await;
            changes.borrow_and_update();
            catalog.borrow_and_update();
            // Before every slot has had its verdict, what looks unneeded may be the only way back.
            if !self.board.all_decided() {
                continue;
            }
            let is_due = Instant::now() >= daily;
            let uses = self.uses().await;
            if last.as_ref() == Some(&uses) && !is_due {
                continue;
            }
            match self.collect(Mode::Remove).await {
                Ok(_) => last = Some(uses),
                Err(error) => tracing::warn!(error = chain(&error), "the store was not looked through"),
            }
            if is_due {
                daily = Instant::now() + DAILY;
            }
        }
    }

    /// What a slot wants, or will want.
    fn wanted(&self, slot: &SlotId) -> Option<Artifact> {
        let view = self.catalog.borrow();
        let named = view.desired.slots.get(slot).and_then(|intent| {
            let staged = intent.staged.first().map(|staged| &staged.artifact);
            intent.artifact.as_ref().or(staged).cloned()
        });
        named.or_else(|| {
            let slots = self.board.slots();
            slots.iter().find(|(id, _)| id == slot).and_then(|(_, view)| view.slot.wanted().cloned())
        })
    }

    /// What every slot needs, by the catalog, by what runs, and by what a restart would go on from.
    async fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        let mut note = |slot: &SlotId, sha256: Sha256, how: ArtifactRole| {
            uses.entry(sha256).or_default().insert(ArtifactUse { slot: slot.clone(), how });
        };
        let desired = self.catalog.borrow().desired.clone();
        for (slot, intent) in &desired.slots {
            if let Some(artifact) = &intent.artifact {
                note(slot, artifact.sha256, ArtifactRole::Desired);
            }
            for staged in &intent.staged {
                note(slot, staged.artifact.sha256, ArtifactRole::Staged);
            }
        }
        for (slot, view) in self.board.slots() {
            if let Some(artifact) = view.slot.wanted() {
                note(&slot, artifact.sha256, ArtifactRole::Desired);
            }
            for generation in view.slot.generations() {
                note(&slot, generation.sha256(), role(generation.phase()));
            }
        }
        let mut ledger = LedgerState::default();
        // Nothing is changed, so that nothing is written.
        if let Err(error) = self.recorder.record(|state| ledger = state.clone()).await {
            tracing::debug!(error = chain(&error), "the ledger could not be asked");
        }
        for (slot, sha256, how) in remembered(&ledger) {
            note(&slot, sha256, how);
        }
        uses
    }
}

fn role(phase: Phase) -> ArtifactRole {
    match phase {
        Phase::Parked => ArtifactRole::Parked,
        Phase::Retired | Phase::Draining | Phase::Terminating | Phase::Killing | Phase::Exited | Phase::Failed => {
            ArtifactRole::Draining
        }
        Phase::Fetching | Phase::Preflight | Phase::Starting | Phase::Warming | Phase::Ready | Phase::Serving => {
            ArtifactRole::Live
        }
    }
}

/// The artifacts that the ledger names, in its written form: whatever it remembers of a slot is something that
/// the slot may go back to.
fn remembered(ledger: &LedgerState) -> Vec<(SlotId, Sha256, ArtifactRole)> {
    let mut found = Vec::new();
    gather(&serde_json::to_value(ledger).unwrap_or_default(), None, ArtifactRole::LastGood, &mut found);
    found
}

fn gather(value: &Value, slot: Option<&SlotId>, how: ArtifactRole, found: &mut Vec<(SlotId, Sha256, ArtifactRole)>) {
    match value {
        Value::Object(fields) => {
            let named = |value: &Value| serde_json::from_value::<SlotId>(value.clone()).ok();
            let own = named(value).or_else(|| fields.get("slot").and_then(named));
            let slot = own.as_ref().or(slot);
            if let (Some(slot), Ok(artifact)) = (slot, serde_json::from_value::<Artifact>(value.clone())) {
                found.push((slot.clone(), artifact.sha256, how));
            }
            for (name, field) in fields {
                gather(field, slot, if name == "pin" { ArtifactRole::Pinned } else { how }, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, slot, how, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::VersionName;

    use super::*;

    #[test]
    fn every_artifact_that_the_ledger_names_for_a_slot_is_needed_by_it() {
        let artifact = |name: &str| serde_json::json!({"sha256": name.repeat(32), "urls": ["https://a.example/"]});
        let written = serde_json::json!({
            "slots": [
                {"service": "demo", "name": "v1", "memory": {
                    "last_good": artifact("aa"),
                    "baked": {"artifact": artifact("bb"), "state": "none"},
                    "touched": [{"sha256": "cc".repeat(32)}],
                    "pin": artifact("dd"),
                }},
            ],
            "last_good": [{"slot": {"service": "demo", "name": "v2"}, "artifact": artifact("ee")}],
        });
        let mut found = Vec::new();
        gather(&written, None, ArtifactRole::LastGood, &mut found);
        let slot =
            |name: &str| SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new(name).unwrap() };
        let named = |byte: u8| Sha256([byte; 32]);
        found.sort_by_key(|(_, sha256, _)| *sha256);
        let expected = [
            (slot("v1"), named(0xaa), ArtifactRole::LastGood),
            (slot("v1"), named(0xbb), ArtifactRole::LastGood),
            (slot("v1"), named(0xdd), ArtifactRole::Pinned),
            (slot("v2"), named(0xee), ArtifactRole::LastGood),
        ];
        assert_eq!(found, expected);
    }
}
