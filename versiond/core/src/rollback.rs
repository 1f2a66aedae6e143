//! What serves is on trial: when it is taken back, when it has passed, and where going back is not safe.
//!
//! Must not live here: how the way back is taken (`goals` and `plan`).

use supervisor_protocol::{Generation, Reason, Tick};

use crate::catalog::Artifact;
use crate::errors::{Answers, Usual};
use crate::generation::{Gen, Health, State};
use crate::goals;
use crate::memory::{RollbackCause, RolledBack, Served};
use crate::slot::Slot;

impl Slot {
    /// Looks at what is on trial: it has passed, or one that served before is better in the same round.
    pub(crate) fn judge(&mut self, now: Tick) {
        self.judge_errors(now);
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
                // Its predecessor was asked after it had failed and could serve, and it still cannot since then: the
                // cause is none that they share, nor one that is just passing.
                let better = self.way_back().filter(|way| {
                    way.health().is_some_and(|other| {
                        other.is_sound() && other.answered > since && health.has_failed_since(other.answered)
                    })
                });
                if let (true, Some(better)) = (is_ordered(self, tried), better) {
                    let detail = format!("it was not ready while {} was: {}", better.number, health.detail);
                    let artifact = tried.artifact.clone();
                    self.take_back(&artifact, RollbackCause::Unready, detail);
                }
            }
        }
    }

    /// Its predecessor was asked after the errors began and was well, where it is still there: the cause is none that
    /// they share. What is answered while it is not well does not count.
    fn judge_errors(&mut self, now: Tick) {
        if self.policy.errors.is_none() {
            return;
        }
        if kept(self).any(|health| !health.is_sound()) {
            let generations = &self.generations;
            if let Some(trial) = self.trial.as_mut().filter(|trial| generations.contains_key(&trial.generation)) {
                // Also of what has not been counted yet: its first answers may be from before that.
                self.tallies.entry(trial.generation).or_default().restart();
                trial.risen = None;
            }
            return;
        }
        let Some((tried, detail)) = makes_errors(self) else {
            if let Some(trial) = &mut self.trial {
                trial.risen = None;
            }
            return;
        };
        let artifact = tried.artifact.clone();
        let risen = self.trial.as_mut().map_or(now, |trial| *trial.risen.get_or_insert(now));
        if kept(self).all(|health| health.answered > risen) {
            self.take_back(&artifact, RollbackCause::Errors, detail);
        }
    }

    /// Goes back to what had passed its trial, where that is safe. Says whether it does.
    pub(crate) fn take_back(&mut self, tried: &Artifact, cause: RollbackCause, detail: String) -> bool {
        let Some(way) = self.memory.baked.clone() else { return false };
        if blocked(self, tried, &way).is_some() || self.memory.took_back(&tried.sha256) {
            return false;
        }
        if goals::ordered(self).is_some_and(|ordered| ordered.is_same(tried)) {
            self.memory.rolled_back = Some(RolledBack { sha256: tried.sha256, cause, detail });
        }
        self.memory.last_good = Some(way.artifact);
        self.trial = None;
        true
    }

    /// Takes what a generation has answered since it began.
    pub(crate) fn answered(&mut self, number: Generation, answers: Answers, now: Tick) {
        let Some(rule) = self.policy.errors else { return };
        let Some(generation) = self.generations.get(&number).filter(|one| one.health().is_some()) else { return };
        let is_tried = self.trial.as_ref().is_some_and(|trial| trial.generation == number);
        let tally = self.tallies.entry(number).or_default();
        tally.counts(answers, (!is_tried).then_some(self.timings.bake), now);
        let answers = tally.lately();
        // Kept when its process is gone, and when it answers no more since another serves.
        let is_way = self.memory.baked.as_ref().is_some_and(|baked| baked.artifact.is_same(&generation.artifact));
        if is_way && rule.tells(answers) {
            self.usual = Some(Usual { sha256: generation.sha256(), answers });
        }
    }
}

fn is_ordered(slot: &Slot, tried: &Gen) -> bool {
    goals::ordered(slot).is_some_and(|ordered| ordered.is_same(&tried.artifact))
}

/// What has served before and could serve again at once.
fn kept(slot: &Slot) -> impl Iterator<Item = &Health> {
    let baked = slot.memory.baked.as_ref();
    let kept = slot.generations().filter(|one| one.can_return());
    kept.filter(move |one| baked.is_some_and(|baked| baked.artifact.is_same(&one.artifact))).filter_map(Gen::health)
}

/// What is on trial and ordered, when it answers with more errors than what served before it lately did.
fn makes_errors(slot: &Slot) -> Option<(&Gen, String)> {
    let (rule, trial, baked) = (slot.policy.errors?, slot.trial.as_ref()?, slot.memory.baked.as_ref()?);
    let serving = slot.serving().filter(|one| one.number == trial.generation && is_ordered(slot, one))?;
    let tried = slot.tallies.get(&trial.generation)?.lately();
    let usual = slot.usual.as_ref().filter(|usual| usual.sha256 == baked.artifact.sha256)?.answers;
    let before = baked.artifact.sha256.short();
    let detail = || format!("{tried} answers of {} were errors, and of {before} {usual}", serving.number);
    rule.is_broken_by(tried, usual).then(|| (serving, detail()))
}

/// What is gone back to from these bytes: what last passed its trial, or what did before that.
pub(crate) fn way<'s>(slot: &'s Slot, from: &Artifact) -> Option<&'s Served> {
    slot.memory.baked.iter().chain(&slot.memory.before).find(|way| !way.artifact.is_same(from))
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
        Some(_) if makes_errors(slot).is_some() => blocked(slot, ordered, way)?,
        Some(_) => return None,
        None => {
            let back = slot.memory.last_good.as_ref().is_some_and(|good| good.is_same(&way.artifact));
            slot.failure_of(&ordered.sha256).filter(|_| !back)?;
            blocked(slot, ordered, way)?
        }
    };
    Some(Reason::RollbackUnsafe { detail })
}
