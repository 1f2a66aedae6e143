//! What the slot remembers, written before what follows from it is done; and what it says of itself to the other
//! slots of its service.
//!
//! Must not live here: what is worth remembering (that is `versiond-core`).

use std::time::Duration;

use supervisor_protocol::Sha256;
use supervisor_protocol::admin::{Verb, VerbRefused};
use versiond_core::catalog::Artifact;
use versiond_core::replay::Act;

use super::Actor;
use crate::supervisor::child::chain;

/// How long the slot waits for the disk. What serves must not wait for one that hangs; the write goes on, and a
/// later one is compared with what is known to be there.
const WITHIN: Duration = Duration::from_secs(5);

impl Actor {
    /// Takes an operator's order: in force once it is on the disk, so that a restart keeps it.
    pub(super) async fn command(&mut self, verb: &Verb) -> Result<(), VerbRefused> {
        let (before, now) = (self.slot.clone(), self.effects.shared.clock.now());
        let (mut act, mut taken) = (Act::Order(verb.clone()), self.slot.command(verb, now));
        if let (Err(VerbRefused::UnknownArtifact { detail }), Verb::Pin { sha256: Some(sha256) }) = (&taken, verb) {
            match self.in_store(*sha256).await {
                Ok(artifact) => {
                    self.slot.pin(artifact.clone(), now);
                    (act, taken) = (Act::Pinned(artifact), Ok(()));
                }
                Err(why) => {
                    taken = Err(VerbRefused::UnknownArtifact { detail: format!("{detail}, and {why}") });
                }
            }
        }
        if taken.is_ok()
            && let Err(detail) = self.record().await
        {
            self.slot = before;
            return Err(VerbRefused::LedgerUnwritable { detail });
        }
        self.note(act, now, &[]);
        taken
    }

    /// Bytes that the store has, whether the slot has known them or not. The text says why they are of no use.
    async fn in_store(&self, sha256: Sha256) -> Result<Artifact, String> {
        if self.effects.service.now().command.is_some() {
            return Err("the slot runs a program of the configuration".to_owned());
        }
        match tokio::time::timeout(WITHIN, self.effects.shared.store.find(sha256)).await {
            Ok(Ok(Some(artifact))) => Ok(artifact),
            Ok(Ok(None)) => Err("the store does not have it".to_owned()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("the store has not answered within {WITHIN:?}")),
        }
    }

    /// Says what the slot is to run, when that is something else than before. After an order always: the manager has
    /// said meanwhile what the order alone would come to, and a pin goes ahead of it.
    pub(super) fn aim(&mut self, is_order: bool) {
        let goal = self.slot.goal().map(|goal| goal.sha256).filter(|sha256| !self.slot.is_denied(sha256));
        if is_order || goal != self.aimed {
            self.effects.shared.schemas.aim(&self.effects.id, goal);
            self.aimed = goal;
        }
    }

    /// Writes what the slot remembers, if that has changed. The text says why it could not.
    pub(super) async fn record(&mut self) -> Result<(), String> {
        let memory = self.slot.memory().clone();
        if memory == self.recorded {
            return Ok(());
        }
        let (effects, written) = (self.effects.clone(), memory.clone());
        let write = async move { effects.shared.recorder.remember(&effects.id, written).await };
        // Not dropped half-way: writes keep their order.
        let result = match tokio::time::timeout(WITHIN, self.effects.shared.tail.spawn(write)).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(chain(&error)),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("the disk has not answered within {WITHIN:?}")),
        };
        match &result {
            Ok(()) => self.recorded = memory,
            Err(error) => tracing::warn!(slot = %self.effects.id, error, "not remembered over a restart"),
        }
        result
    }
}
