//! What serves is on trial: when it is taken back, when it has passed, and where going back is not safe.
//!
//! Must not live here: how the way back is taken (`goals` and `plan`).

use supervisor_protocol::{Reason, Tick};

use crate::catalog::Artifact;
use crate::generation::{Gen, Health, State};
use crate::goals;
use crate::memory::{RolledBack, Served};
use crate::slot::Slot;

impl Slot {
    /// Looks at what is on trial: it has passed, or one that served before is better in the same round.
    pub(crate) fn judge(&mut self, now: Tick) {
        let Some(trial) = &self.trial else { return };
        let Some(tried) = self.generations.get(&trial.generation) else { return };
        let State::Serving { health, .. } = &tried.state else { return };
        match health.unready_since() {
            None if now >= trial.until => {
                let served = served(tried);
                self.trial = None;
                self.memory.before = self.memory.baked.take();
                self.memory.baked = served;
            }
            None => {}
            Some(since) => {
                let ordered = goals::ordered(self).is_some_and(|ordered| ordered.is_same(&tried.artifact));
                // Its predecessor was asked after it had failed and could serve, and it still cannot since then: the
                // cause is none that they share, nor one that is just passing.
                let better = self.way_back().filter(|way| {
                    way.health().is_some_and(|other| {
                        other.is_sound() && other.answered > since && health.has_failed_since(other.answered)
                    })
                });
                if let (true, Some(better)) = (ordered, better) {
                    let detail = format!("it was not ready while {} was: {}", better.number, health.detail);
                    let artifact = tried.artifact.clone();
                    self.take_back(&artifact, detail);
                }
            }
        }
    }

    /// Goes back to what had passed its trial, where that is safe. Says whether it does.
    pub(crate) fn take_back(&mut self, tried: &Artifact, detail: String) -> bool {
        let Some(way) = self.memory.baked.clone() else { return false };
        if blocked(self, tried, &way).is_some() || self.memory.took_back(&tried.sha256) {
            return false;
        }
        if goals::ordered(self).is_some_and(|ordered| ordered.is_same(tried)) {
            self.memory.rolled_back = Some(RolledBack { sha256: tried.sha256, detail });
        }
        self.memory.last_good = Some(way.artifact);
        self.trial = None;
        true
    }
}

/// What is remembered of a generation that has served.
pub(crate) fn served(generation: &Gen) -> Option<Served> {
    let facts = generation.facts()?;
    Some(Served { artifact: generation.artifact.clone(), state: facts.state, data: facts.data })
}

/// Why these bytes are not taken back for those without an operator.
pub(crate) fn blocked(slot: &Slot, tried: &Artifact, way: &Served) -> Option<String> {
    let short = way.artifact.sha256.short();
    if slot.denied.contains(&way.artifact.sha256) {
        return Some(format!("{short} is denied"));
    }
    if tried.irreversible {
        return Some(format!("{} was activated for more than this host", tried.sha256.short()));
    }
    // What has run beside it reads what it writes.
    if slot.generations().any(|one| one.artifact.is_same(&way.artifact) && one.can_return()) {
        return None;
    }
    slot.memory.unreadable(way)
}

/// Why the slot is not brought back to what had passed its trial, although what followed fails.
pub(crate) fn unsafe_reason(slot: &Slot) -> Option<Reason> {
    let (way, ordered) = (slot.memory.baked.as_ref()?, goals::ordered(slot)?);
    if way.artifact.is_same(ordered) || slot.memory.took_back(&ordered.sha256) {
        return None;
    }
    let detail = match slot.serving() {
        Some(serving) if serving.artifact.is_same(ordered) && !serving.is_live() => {
            let mut kept = slot.generations().filter(|kept| kept.artifact.is_same(&way.artifact) && kept.can_return());
            match kept.next() {
                Some(kept) => blocked(slot, ordered, way).or_else(|| {
                    let sound = kept.health().is_some_and(Health::is_sound);
                    (!sound).then(|| format!("{}, which served before, is not ready either", kept.number))
                })?,
                None => format!("{} is no longer there", way.artifact.sha256.short()),
            }
        }
        Some(_) => return None,
        None => {
            let back = slot.memory.last_good.as_ref().is_some_and(|good| good.is_same(&way.artifact));
            slot.failure_of(&ordered.sha256).filter(|_| !back)?;
            blocked(slot, ordered, way)?
        }
    };
    Some(Reason::RollbackUnsafe { detail })
}
