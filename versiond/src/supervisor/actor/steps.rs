//! A step of the slot's machine, carried out.
//!
//! Must not live here: the choice of a step, or what follows from its outcome (`versiond-core`).

use std::sync::Arc;
use std::time::Duration;

use router_dataplane::{Absence, Load};
use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, Refusal};
use tokio_util::sync::CancellationToken;
use versiond_core::catalog::Artifact;
use versiond_core::evacuate::Evacuate;
use versiond_core::generation::DrainEnd;
use versiond_core::slot::{Absent, Input, Step};

use super::receipt::receipt;
use super::{Actor, Draining, Held, exit_of};
use crate::faults::Fault;
use crate::process::Signal;
use crate::supervisor::child::chain;
use crate::supervisor::effects::{Effects, Event};
use crate::supervisor::launch::Life;
use crate::supervisor::probe::Subject;

/// How long the ends of a dead process's connections are waited for before its receipt is written.
const BREAKS_WITHIN: Duration = Duration::from_secs(2);

impl Actor {
    /// Carries out one step; whatever it causes at once comes back as inputs.
    pub(super) async fn carry_out(&mut self, step: Step) -> Vec<Input> {
        match step {
            Step::Fetch(generation, artifact) => self.fetch(generation, artifact),
            Step::Describe(generation) => self.describe(generation),
            Step::Start(generation) => self.start(generation),
            Step::Publish { new, old } => return self.publish(new, old).await,
            Step::Restore { back, old } => return self.restore(back, old).await,
            Step::Hold { old, until, .. } => {
                self.show_with(|route| route.withdraw(Absence::Hold { forecast: Some(until) }));
                return self.retire(old);
            }
            Step::Evacuate(generation, step) => {
                tracing::info!(slot = %self.effects.id, %generation, ?step, "evacuate");
                if step == Evacuate::Claim {
                    self.show();
                    return vec![Input::Claimed(generation)];
                }
            }
            Step::Withdraw(generation, absent) => {
                self.show_with(|route| route.withdraw(absence(absent)));
                return self.retire(generation);
            }
            Step::Absent(absent) => {
                self.show_with(|route| route.withdraw(absence(absent)));
            }
            Step::Cut(generation, class) => {
                if let Some(target) = self.held.get(&generation).and_then(|held| held.target.as_ref()) {
                    tracing::warn!(slot = %self.effects.id, %generation, %class, "cut: the class's drain deadline has passed");
                    target.cut(class);
                }
            }
            Step::DrainChild(generation) => return self.drain_child(generation),
            Step::Park(generation, end) => self.park(generation, end),
            Step::Terminate(generation) => self.signal(generation, self.stop_signal(generation)),
            Step::Kill(generation) => self.signal(generation, Signal::SIGKILL),
            Step::Forget(generation, end) => self.forget(generation, end),
        }
        Vec::new()
    }

    fn fetch(&mut self, generation: Generation, artifact: Artifact) {
        let held = self.held.entry(generation).or_default();
        held.sha256 = Some(artifact.sha256);
        let cancel = held.cancel.clone();
        let effects = self.effects.clone();
        self.run_task(cancel, async move { effects.fetch(generation, artifact).await });
    }

    fn describe(&mut self, generation: Generation) {
        let Some(held) = self.held.get(&generation) else { return };
        let Some(installed) = held.installed.clone() else { return };
        let (effects, tell) = (self.effects.clone(), self.tell.clone());
        let has_served = self.slot.memory().has_served(&installed.archive_sha256);
        self.run_task(
            held.cancel.clone(),
            async move { effects.describe(generation, installed, has_served, tell).await },
        );
    }

    fn start(&mut self, generation: Generation) {
        let Some(held) = self.held.get(&generation) else { return };
        let (Some(build), Some(facts), Some(sha256)) = (held.build.clone(), held.view.facts.clone(), held.sha256)
        else {
            return;
        };
        let effects = self.effects.clone();
        let (cancel, tell) = (held.cancel.clone(), self.tell.clone());
        // Not dropped half-way: the answer to a cancelled start is what lets the slot forget it.
        tokio::spawn(async move {
            let event = effects.start(generation, facts, build, sha256, cancel).await;
            tell.send(event).await.ok();
        });
    }

    fn run_task(&self, cancel: CancellationToken, task: impl Future<Output = Event> + Send + 'static) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            if let Some(event) = cancel.run_until_cancelled(task).await {
                tell.send(event).await.ok();
            }
        });
    }

    /// The process exists: watch its readiness and its exit, each for this generation alone (F23).
    pub(super) fn launched(&mut self, generation: Generation, life: Life) {
        let stopping = self.slot.generations().find(|known| known.number == generation).map(|known| known.phase());
        let running = life.running.clone();
        let tell = self.tell.clone();
        let exits = running.clone();
        tokio::spawn(async move {
            let exit = exits.exited().await;
            tell.send(Event::Input(Input::Exited(generation, exit_of(exit)))).await.ok();
        });
        let Some(held) = self.held.get_mut(&generation) else { return };
        let role = held.role();
        held.view.pid = u32::try_from(running.identity().pid).ok();
        held.view.port = Some(life.port.port());
        held.view.metrics = life.link.metrics().map(Arc::new);
        match stopping {
            Some(Phase::Terminating) => drop(running.signal(life.stop)),
            Some(Phase::Killing) | None => drop(running.signal(Signal::SIGKILL)),
            Some(_) => {
                let (link, nonce) = (life.link.clone(), life.nonce.clone());
                let (standby, uncounted) = (held.standby.clone(), held.uncounted.clone());
                let subject = Subject { generation, role, running, link, nonce, standby, uncounted };
                let watch = self.effects.clone().watch(subject, self.tell.clone());
                let cancel = held.cancel.clone();
                tokio::spawn(async move { cancel.run_until_cancelled(watch).await });
            }
        }
        held.life = Some(life);
    }

    fn drain_child(&mut self, generation: Generation) -> Vec<Input> {
        if self.effects.shared.faults.has(Fault::NoLease) {
            return vec![Input::ChildLoad(generation, 0)];
        }
        if let Some(held) = self.held.get_mut(&generation)
            && let Some(life) = &held.life
        {
            let (link, tell, taken_back) = (life.link.clone(), self.tell.clone(), CancellationToken::new());
            let drain = self.effects.clone().drain_child(generation, link, tell, taken_back.clone());
            let cancel = held.cancel.clone();
            let task = tokio::spawn(async move {
                cancel.run_until_cancelled(drain).await;
            });
            held.drain = Some(Draining { taken_back, task });
        }
        Vec::new()
    }

    /// What a child takes for a request to stop.
    fn stop_signal(&self, generation: Generation) -> Signal {
        let life = self.held.get(&generation).and_then(|held| held.life.as_ref());
        life.map_or(Signal::SIGTERM, |life| life.stop)
    }

    pub(super) fn signal(&mut self, generation: Generation, signal: Signal) {
        let Some(held) = self.held.get(&generation) else { return };
        let skip_grace = self.effects.shared.faults.has(Fault::NoLease);
        let signals = if skip_grace { vec![signal, Signal::SIGKILL] } else { vec![signal] };
        match &held.life {
            Some(life) => {
                for signal in signals {
                    if let Err(error) = life.running.signal(signal) {
                        tracing::debug!(slot = %self.effects.id, %generation, %error, "the signal met no process");
                    }
                }
            }
            // Still being made: the start ends itself, and says so.
            None => held.cancel.cancel(),
        }
    }

    /// Its work is over and the process is kept: what it serves from now on is another drain's.
    fn park(&mut self, generation: Generation, end: DrainEnd) {
        let Some(mut held) = self.held.remove(&generation) else { return };
        held.view.target = None;
        held.view.child_load = None;
        self.write_receipt(generation, &mut held, end);
        self.held.insert(generation, held);
    }

    fn write_receipt(&self, generation: Generation, held: &mut Held, end: DrainEnd) {
        let (Some(target), Some(sha256)) = (held.target.take(), held.sha256) else { return };
        let (effects, at_retire) = (self.effects.clone(), held.at_retire.take());
        let write = move |load: &Load| {
            let receipt = receipt(effects.id.clone(), generation, sha256, end, at_retire.as_ref(), load);
            tracing::info!(
                slot = %effects.id, %generation, outcome = ?receipt.outcome, took_ms = receipt.took_ms,
                at_start = receipt.at_start.total(), cut = receipt.cut.total(), "drained"
            );
            effects.shared.metrics.drained(&receipt);
            effects.shared.board.add_receipt(receipt);
        };
        let load = target.load();
        if load.inflight == 0 {
            write(&load);
        } else {
            // What has died shows at its connections a moment later; at one that nobody reads, perhaps never.
            self.effects.shared.tail.spawn(async move {
                tokio::time::timeout(BREAKS_WITHIN, target.idle()).await.ok();
                write(&target.load());
            });
        }
    }

    fn forget(&mut self, generation: Generation, end: Option<DrainEnd>) {
        let Some(mut held) = self.held.remove(&generation) else { return };
        held.cancel.cancel();
        held.paused.cancel();
        if let Some(end) = end {
            self.write_receipt(generation, &mut held, end);
        }
        if let Some(life) = held.life.take() {
            self.effects.shared.tail.spawn(last_trace(self.effects.clone(), generation, life));
        }
    }
}

/// Whether a step changes what requests meet.
pub(super) const fn reroutes(step: &Step) -> bool {
    match step {
        Step::Publish { .. } | Step::Restore { .. } | Step::Hold { .. } | Step::Withdraw(..) | Step::Absent(_) => true,
        Step::Fetch(..)
        | Step::Describe(_)
        | Step::Start(_)
        | Step::Evacuate(..)
        | Step::Cut(..)
        | Step::DrainChild(_)
        | Step::Park(..)
        | Step::Terminate(_)
        | Step::Kill(_)
        | Step::Forget(..) => false,
    }
}

/// What a step does to the world outside, if anything but what is shown. Several do the same, for other reasons.
pub(super) fn effect(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Evacuate(..) => return None,
        Step::Publish { .. } | Step::Restore { .. } => "publish",
        Step::Withdraw(..) | Step::Hold { .. } => "withdraw",
        Step::Forget(..) | Step::Park(..) => "forget",
        Step::Fetch(..)
        | Step::Describe(_)
        | Step::Start(_)
        | Step::Absent(_)
        | Step::Cut(..)
        | Step::DrainChild(_)
        | Step::Terminate(_)
        | Step::Kill(_) => step.name(),
    })
}

/// Keeps port, socket and ledger entry until no descendant of the process is left either.
async fn last_trace(effects: Effects, generation: Generation, life: Life) {
    life.running.gone().await;
    if let Err(error) = effects.shared.recorder.forget(generation).await {
        // The entry is harmless: the next start looks for its process and finds none.
        tracing::warn!(slot = %effects.id, %generation, error = chain(&error), "not struck off the ledger");
    }
    drop(life);
}

fn absence(absent: Absent) -> Absence {
    match absent {
        Absent::Hold { until } => Absence::Hold { forecast: until },
        Absent::NotFound => Absence::Refuse { refusal: Refusal::NotFound, retry_after_s: None },
        Absent::Stopping => Absence::Refuse { refusal: Refusal::HostStopping, retry_after_s: Some(1) },
        Absent::NotServing => Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: Some(1) },
    }
}
