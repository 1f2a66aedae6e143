//! How a slot is shown: the parts of the bodies that the board gives, and what of a change is worth telling.

use std::collections::BTreeMap;

use supervisor_protocol::admin::{GenerationStatus, Phase, SlotPlan, SlotStatus, SwapStrategy, WayBack, WhyReason};
use supervisor_protocol::events::Transition;
use supervisor_protocol::host::{HealthStatus, SlotReadiness};
use supervisor_protocol::time::millis;
use supervisor_protocol::{Generation, Reason, Sha256, SlotId, Tick};
use versiond_core::generation::{Gen, State};
use versiond_core::memory::RollbackCause;
use versiond_core::slot::{Slot, Want};
use versiond_core::strategy::Strategy;

use super::SlotView;

/// A routed child of this slot is live-ready now, or its requests wait for a successor within their bound.
pub(super) fn live(slot: &Slot) -> bool {
    slot.is_ready()
}

pub(super) fn readiness(id: &SlotId, view: &SlotView) -> SlotReadiness {
    SlotReadiness {
        service: id.service.clone(),
        name: id.name.clone(),
        ready: live(&view.slot),
        sha256: view.slot.serving().map(|serving| serving.sha256()),
        failed: view.slot.wanted().map(|wanted| wanted.sha256).filter(|wanted| {
            view.slot.failure_of(wanted).is_some()
                && view.slot.serving().is_none_or(|serving| serving.sha256() != *wanted)
        }),
        evacuating: view.slot.is_evacuating(),
    }
}

pub(super) fn worded(reason: Reason) -> WhyReason {
    WhyReason { text: reason.to_string(), reason }
}

/// What a slot's generations have done since it was last shown.
pub(super) fn transitions(id: &SlotId, before: Option<&Slot>, after: Option<&Slot>) -> Vec<Transition> {
    let (old, new) = (numbered(before), numbered(after));
    let entered = new.iter().filter_map(|(number, now)| {
        let from = old.get(number).map(|generation| generation.phase());
        (from != Some(now.phase())).then(|| (*number, from, now.phase(), None))
    });
    let left = old.iter().filter(|(number, _)| !new.contains_key(number)).map(|(number, gone)| {
        let failure = before.zip(after).and_then(|(before, after)| after.failed_since(before, *number));
        let to = if failure.is_some() { Phase::Failed } else { Phase::Exited };
        (*number, Some(gone.phase()), to, failure)
    });
    let transition = |(generation, from, to, reason)| Transition { slot: id.clone(), generation, from, to, reason };
    left.chain(entered).map(transition).collect()
}

/// Why something was taken back since it was last shown. What was before a restart has been counted then.
pub(super) fn taken_back(before: Option<&Slot>, after: Option<&Slot>) -> Option<RollbackCause> {
    let (before, after) = (&before?.memory().rolled_back, after?.memory().rolled_back.as_ref()?);
    (before.as_ref().map(|before| before.sha256) != Some(after.sha256)).then_some(after.cause)
}

fn numbered(slot: Option<&Slot>) -> BTreeMap<Generation, &Gen> {
    slot.into_iter().flat_map(Slot::generations).map(|generation| (generation.number, generation)).collect()
}

/// What somebody may be waiting for.
pub(super) fn told(id: &SlotId, view: &SlotView) -> (SlotReadiness, bool, bool) {
    (readiness(id, view), has_verdict(view), *view.slot.want() == Want::Nothing)
}

/// Whether the slot has had its verdict. One that waits for the builds of other slots waits for their verdict.
pub(super) fn has_verdict(view: &SlotView) -> bool {
    view.slot.has_verdict() || view.lives.values().any(|life| !life.schema_ahead.is_empty())
}

/// The reason as it is for one who knows more than the slot.
fn known_better(view: &SlotView, reason: Reason) -> Reason {
    let Reason::Preflight { generation } = reason else { return reason };
    match view.lives.get(&Generation(generation)).map(|life| &life.schema_ahead[..]) {
        None | Some([]) => reason,
        Some(slots) => Reason::SchemaWait { generation, slots: slots.to_vec() },
    }
}

pub(super) fn health_status(generation: &Gen) -> HealthStatus {
    match generation.state {
        State::Fetching
        | State::Preflight
        | State::Waiting { .. }
        | State::Starting { .. }
        | State::Warming { .. }
        | State::Ready { .. } => HealthStatus::Starting,
        State::Serving { .. } => HealthStatus::Running,
        State::Retired { .. } | State::Draining { .. } | State::Parked { .. } => HealthStatus::Draining,
        State::Terminating { .. } | State::Killing { .. } => HealthStatus::Stopped,
    }
}

pub(super) fn reasons(
    view: &SlotView,
    blocked: Option<&Reason>,
    pauses: &BTreeMap<Sha256, Tick>,
    now: Tick,
) -> Vec<Reason> {
    let mut reasons: Vec<Reason> =
        view.slot.reasons(now).into_iter().map(|reason| known_better(view, reason)).collect();
    for reason in &mut reasons {
        if let (Reason::Fetching { received, total, .. }, Some((so_far, of))) = (reason, view.progress) {
            (*received, *total) = (so_far, of);
        }
    }
    for reason in &mut reasons {
        let (Reason::HashMismatch { expected: sha256, retry_in_ms, .. }
        | Reason::FetchFailed { sha256, retry_in_ms, .. }
        | Reason::ArtifactRefused { sha256, retry_in_ms, .. }) = reason
        else {
            continue;
        };
        // The slot may ask sooner, and is told the same without a fetch.
        let until = sha256.parse().ok().and_then(|sha256: Sha256| pauses.get(&sha256));
        *retry_in_ms = until.map_or(0, |until| millis(until.since(now))).max(*retry_in_ms);
    }
    reasons.extend(blocked.cloned());
    reasons
}

pub(super) fn slot_status(
    id: &SlotId,
    view: &SlotView,
    blocked: Option<&Reason>,
    pauses: &BTreeMap<Sha256, Tick>,
    now: Tick,
) -> SlotStatus {
    let generations = view.slot.generations().map(|generation| {
        let life = view.lives.get(&generation.number).cloned().unwrap_or_default();
        let load = life.target.as_ref().map(|target| target.load());
        let by_class = load.as_ref().map(|load| load.by_class).unwrap_or_default();
        let facts = generation.facts().or(life.facts.as_ref());
        GenerationStatus {
            generation: generation.number,
            sha256: generation.sha256(),
            phase: generation.phase(),
            pid: life.pid,
            port: life.port,
            binary_version: facts.map(|facts| facts.binary_version.clone()),
            role: facts.map(|facts| facts.role),
            state: facts.map(|facts| facts.state),
            phase_ms: millis(now.since(generation.since)),
            inflight: by_class.total().max(life.child_load.unwrap_or_default()),
            by_class,
            oldest_ms: load.as_ref().map(|load| load.oldest_ms).unwrap_or_default(),
            admitted: load.as_ref().map(|load| load.admitted).unwrap_or_default(),
        }
    });
    SlotStatus {
        slot: id.clone(),
        desired: view.slot.wanted().map(|wanted| wanted.sha256),
        override_file: None,
        ready: live(&view.slot),
        generations: generations.collect(),
        way_back: way_back(&view.slot),
        reasons: reasons(view, blocked, pauses, now),
    }
}

/// What an operator's `rollback` goes to.
fn way_back(slot: &Slot) -> Option<WayBack> {
    let (artifact, warm) = slot.goes_back_to()?;
    Some(WayBack { sha256: artifact.sha256, generation: warm.map(|warm| warm.number), warm: warm.is_some() })
}

pub(super) fn slot_plan(id: &SlotId, view: &SlotView, blocked: Option<&Reason>, now: Tick) -> SlotPlan {
    let outlook = view.slot.outlook(now);
    let waits = outlook.blocked_by.into_iter().map(|reason| known_better(view, reason)).chain(blocked.cloned());
    SlotPlan {
        slot: id.clone(),
        serving: view.slot.serving().map(Gen::sha256),
        desired: view.slot.wanted().map(|wanted| wanted.sha256),
        strategy: outlook.strategy.map(|strategy| match strategy {
            Strategy::Overlap => SwapStrategy::Overlap,
            Strategy::Hold => SwapStrategy::Hold,
            Strategy::Evacuate => SwapStrategy::Evacuate,
            Strategy::NeedsWindow => SwapStrategy::NeedsWindow,
        }),
        away_ms: outlook.away_ms,
        blocked_by: waits.map(worded).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supervisor_protocol::contract::{Role, StateKind};
    use supervisor_protocol::{ServiceName, VersionName};
    use versiond_core::catalog::Artifact;
    use versiond_core::generation::{Exit, Facts, Probe};
    use versiond_core::memory::Memory;
    use versiond_core::policy::Policy;
    use versiond_core::slot::Input;
    use versiond_core::timings::Timings;

    use super::*;

    /// A slot that is told things, and what the event stream says of generations that are gone.
    struct Told {
        slot: Slot,
        now: Tick,
        gone: Vec<(Phase, Option<&'static str>)>,
    }

    impl Told {
        fn new() -> Told {
            let slot = Slot::new(Timings::default(), Policy::default(), Memory::default());
            Told { slot, now: Tick(1_000), gone: Vec::new() }
        }

        fn tell(&mut self, input: Input) {
            let before = self.slot.clone();
            self.now = self.now.after(Duration::from_millis(100));
            self.slot.handle(input, self.next(), self.now);
            let id = SlotId { service: ServiceName::new("a").unwrap(), name: VersionName::new("v").unwrap() };
            let gone = transitions(&id, Some(&before), Some(&self.slot)).into_iter();
            let gone = gone.filter(|transition| matches!(transition.to, Phase::Exited | Phase::Failed));
            self.gone.extend(gone.map(|gone| (gone.to, gone.reason.map(|reason| reason.code()))));
        }

        fn next(&self) -> Generation {
            Generation(self.slot.generations().map(|generation| generation.number.0).max().unwrap_or_default() + 1)
        }

        /// A candidate of these bytes whose process has been made.
        fn launched(&mut self, byte: u8) -> Generation {
            let urls = Vec::new();
            let artifact = Artifact { sha256: Sha256([byte; 32]), urls, size: None, entry: None, irreversible: false };
            self.tell(Input::Want(Want::Serve(artifact)));
            let number = self.slot.candidate().unwrap().number;
            let (binary_version, state) = ("1".to_owned(), StateKind::Shared);
            let facts =
                Facts { binary_version, role: Role::Server, state, undrain: true, data: None, exclusive: false };
            self.tell(Input::Fetched(number));
            self.tell(Input::Described(number, facts));
            self.tell(Input::Launched(number));
            number
        }

        /// What serves is wanted again, and this one goes.
        fn give_up(&mut self, number: Generation) {
            let wanted = self.slot.serving().unwrap().artifact.clone();
            self.tell(Input::Want(Want::Serve(wanted)));
            self.tell(Input::Exited(number, Exit::Code(0)));
        }

        fn past(&mut self, seconds: u64) {
            self.now = self.now.after(Duration::from_secs(seconds));
            self.tell(Input::Tick);
        }
    }

    #[test]
    fn f18_a_build_that_never_gets_ready_is_told_as_failed_once_it_is_gone() {
        let mut told = Told::new();
        let one = told.launched(1);
        told.past(61);
        assert_eq!(told.gone, [], "it is being stopped");
        told.tell(Input::Exited(one, Exit::Code(0)));
        assert_eq!(told.gone, [(Phase::Failed, Some("never_ready"))]);
    }

    #[test]
    fn what_is_gone_has_failed_for_a_cause_of_its_own_or_has_not() {
        let mut told = Told::new();
        let one = told.launched(1);
        told.tell(Input::Exited(one, Exit::Code(1)));
        told.past(61);
        let again = told.launched(1);
        told.tell(Input::Probed(again, Probe::Ready));
        assert_eq!(told.slot.serving().map(|serving| serving.number), Some(again));
        let two = told.launched(2);
        told.give_up(two);
        // It served long enough that what its build failed before is forgotten.
        told.past(3_600);
        told.tell(Input::Exited(again, Exit::Signal(9)));
        assert_eq!(
            told.gone,
            [(Phase::Failed, Some("start_failed")), (Phase::Exited, None), (Phase::Failed, Some("crash_backoff")),]
        );
    }

    #[test]
    fn a_build_that_cannot_say_what_it_is_is_told_as_failed() {
        let mut told = Told::new();
        let one = told.launched(1);
        told.tell(Input::Exited(one, Exit::Code(1)));
        told.gone.clear();
        told.past(61);
        let number = told.slot.candidate().unwrap().number;
        told.tell(Input::Fetched(number));
        told.tell(Input::PreflightFailed(number, "no".to_owned()));
        assert_eq!(told.gone, [(Phase::Failed, Some("preflight_failed"))]);
    }
}
