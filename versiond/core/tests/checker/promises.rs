//! What must hold: of each step before it is carried out, of each input and what follows from it, of each state,
//! and of the beginning and the end of a versiond.

use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{Generation, StreamClass};
use versiond_core::slot::{Absent, Input, Step, Want};

use crate::scope::Scope;
use crate::world::{Daemon, Facts, Route, World};

type Kept = Result<(), String>;

fn must(holds: bool, what: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { Err(what()) }
}

/// What failed of a candidate touches nothing that serves.
pub(crate) fn after_input(facts: &Facts, daemon: &Daemon, input: &Input, steps: &[Step]) -> Kept {
    let Route::Serving(serving) = daemon.rest.route else { return Ok(()) };
    let candidate_ended = matches!(input, Input::Exited(number, _) if *number != serving);
    let failed = matches!(input, Input::FetchFailed(..) | Input::PreflightFailed(..) | Input::LaunchFailed(..));
    let touches = |step: &Step| {
        matches!(
            step,
            Step::Withdraw(number, _) | Step::Terminate(number) | Step::Kill(number) | Step::Hold { old: number, .. }
                if *number == serving
        )
    };
    let is_wanted = facts.catalog.is_some() && daemon.host.leaving_since().is_none();
    must(!(failed || candidate_ended) || !is_wanted || !steps.iter().any(touches), || {
        format!("P3: {input:?} leads to {steps:?}")
    })
}

/// Each step by itself.
pub(crate) fn before_step(facts: &Facts, daemon: &Daemon, step: &Step) -> Kept {
    match step {
        Step::Fetch(number, artifact) => {
            let build = artifact.sha256.0[0];
            must(!facts.taken_back.contains(&build), || format!("P7: {build} was taken back and is tried again"))?;
            must(number.0 >= facts.disk.next, || format!("P7: {number} is given out twice"))
        }
        // One that comes back has said so before, and one lost probe is none.
        Step::Restore { .. } => Ok(()),
        Step::Publish { new, .. } => {
            let process = facts.processes.get(new);
            must(process.is_none_or(|process| process.ready), || format!("P2: {new} serves and did not say ready"))
        }
        Step::DrainChild(number) => {
            let leases = daemon.leases(*number);
            must(leases == 0, || format!("P1: {number} is told to drain with {leases} leases"))
        }
        Step::Terminate(number) => {
            let is_route = daemon.rest.route == Route::Serving(*number);
            must(!is_route, || format!("P1: {number} is stopped while it serves"))?;
            must(may_end(facts, daemon, *number), || format!("P1: {number} is stopped with work in it"))
        }
        Step::Kill(number) => {
            let grace = Scope::timings().stop_grace.min(CANDIDATE);
            let over = daemon.rest.stops.get(number).is_some_and(|stopped| facts.now >= stopped.after(grace));
            let ends = over || !facts.processes.contains_key(number) || matches!(daemon.slot.want(), Want::Force);
            must(ends, || format!("P1: {number} is killed within its grace"))
        }
        Step::Cut(number, class) => {
            let due = deadline(daemon, *number, Some(*class));
            must(due.is_some_and(|due| facts.now >= due), || format!("P1: {class} of {number} is cut before {due:?}"))
        }
        Step::Withdraw(number, _) => {
            let alive = facts.processes.contains_key(number);
            let known = daemon.slot.generations().any(|generation| generation.number == *number);
            let wanted = matches!(daemon.slot.want(), Want::Serve(_) | Want::Keep(_));
            must(!(alive && known && wanted), || format!("P4: {number} is withdrawn, lives and is wanted"))
        }
        Step::Hold { old, .. } => {
            let local = daemon.slot.generations().any(|one| one.facts().is_some_and(|it| it.state == StateKind::Local));
            must(local, || format!("P4: requests wait for a successor of {old} that could start beside it"))
        }
        Step::Evacuate(..) => Err("P4: the slot is given away, and this host has no peers".to_owned()),
        Step::Describe(_) | Step::Start(_) | Step::Absent(_) | Step::Park(..) | Step::Forget(..) => Ok(()),
    }
}

/// How long one that never served gets for its end.
const CANDIDATE: std::time::Duration = std::time::Duration::from_secs(10);

/// Whether a generation may be stopped: nothing is in it, or its time is over.
fn may_end(facts: &Facts, daemon: &Daemon, number: Generation) -> bool {
    let over = deadline(daemon, number, None).is_some_and(|deadline| facts.now >= deadline);
    daemon.leases(number) == 0 || over || matches!(daemon.slot.want(), Want::Force)
}

/// By its own clock, from its retirement: of a class, or of all.
fn deadline(daemon: &Daemon, number: Generation, class: Option<StreamClass>) -> Option<supervisor_protocol::Tick> {
    let retired = daemon.rest.targets.get(&number)?.retired?;
    let timings = Scope::timings();
    let own = retired.after(class.map_or(timings.drain, |class| *timings.drain_class.get(class)));
    match daemon.slot.want() {
        Want::Stop { deadline } => Some(own.min(*deadline)),
        Want::Force => Some(retired),
        Want::Serve(_) | Want::Keep(_) | Want::Nothing => Some(own),
    }
}

impl World {
    /// In every state.
    pub(crate) fn check(&self, scope: &Scope) -> Kept {
        let local = scope.state == StateKind::Local;
        let alive = self.facts.processes.len();
        must(!local || alive <= 1, || format!("P5: {alive} generations share a data directory"))?;
        let Some(daemon) = &self.daemon else { return Ok(()) };
        must(alive <= 3, || format!("P7: {alive} processes of one slot"))?;
        for number in self.facts.processes.keys() {
            let known = self.facts.disk.processes.contains(number);
            must(known, || format!("P7: {number} runs, and the ledger does not know it"))?;
        }
        self.check_route(daemon)?;
        self.check_rest(scope, daemon)
    }

    /// Whoever asks now finds what it should.
    fn check_route(&self, daemon: &Daemon) -> Kept {
        let wanted = self.facts.catalog.is_some() && daemon.host.leaving_since().is_none();
        // A change of what is wanted takes effect once the actor has heard of it.
        let heard = daemon.rest.queue.is_empty();
        match daemon.rest.route {
            Route::Serving(number) => {
                let retired = daemon.rest.targets.get(&number).is_none_or(|target| target.retired.is_some());
                let gone = !self.facts.processes.contains_key(&number);
                must(gone || !retired, || format!("P4: {number} serves and admits nothing"))
            }
            Route::Absent(Absent::Hold { .. }) => Ok(()),
            Route::Absent(absent @ (Absent::NotFound | Absent::NotServing | Absent::Stopping)) => {
                must(!(wanted && heard), || format!("P4: what is wanted is answered with {absent:?}"))
            }
        }
    }

    /// Where nothing is under way and no time is waited for, it is where it should be, or says why not.
    fn check_rest(&self, scope: &Scope, daemon: &Daemon) -> Kept {
        let busy = !daemon.rest.queue.is_empty() || !daemon.rest.tasks.is_empty();
        let goes_on = daemon.slot.wake().is_some() || daemon.slot.wants_forecast(self.facts.now).is_some();
        let made = |number: &Generation| self.facts.processes.contains_key(number);
        let unnoticed = daemon.slot.generations().any(|one| one.has_process() && !made(&one.number));
        let stopping = self.facts.processes.values().any(|process| process.stopped);
        if busy || goes_on || unnoticed || stopping || self.facts.processes.len() > 1 || scope.sabotage.is_some() {
            return Ok(());
        }
        let at_rest = match daemon.slot.want() {
            Want::Serve(wanted) => daemon.slot.serving().is_some_and(|serving| serving.artifact.is_same(wanted)),
            Want::Keep(_) => true,
            Want::Nothing | Want::Stop { .. } | Want::Force => daemon.slot.is_gone() || daemon.inflight() > 0,
        };
        let reasons = daemon.slot.reasons(self.facts.now);
        must(at_rest || !reasons.is_empty(), || format!("P7: it is stuck at {:?} and says nothing", daemon.rest.route))
    }
}

/// A versiond that begins has nothing of its predecessor beside it.
pub(crate) fn after_start(world: &World) -> Kept {
    let left: Vec<&Generation> = world.facts.processes.keys().collect();
    must(left.is_empty(), || format!("P7: {left:?} of a dead versiond live on"))
}

/// Nothing outlives a versiond that has ended in order.
pub(crate) fn after_the_end(world: &World) -> Kept {
    let left: Vec<&Generation> = world.facts.processes.keys().collect();
    must(left.is_empty(), || format!("P7: {left:?} outlive their host"))
}
