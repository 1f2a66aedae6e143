//! Which generation gets requests: made the target, made it again, taken away.
//!
//! Must not live here: which one that should be (`versiond-core`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use router_dataplane::{Absence, Answered, Dial, Target, TargetLabel, Upstream, Voucher};
use supervisor_protocol::contract::Role;
use supervisor_protocol::{Generation, Refusal};
use tokio_util::sync::CancellationToken;
use versiond_core::errors::Answers;
use versiond_core::slot::Input;

use super::{Actor, Draining};
use crate::faults::Fault;
use crate::process::Signal;
use crate::supervisor::effects::{Effects, Event};
use crate::supervisor::launch::Life;

/// How often answers are counted, where errors can take a build back.
const ANSWERS_EVERY: Duration = Duration::from_secs(1);
/// How long a child may take to take its drain back.
const UNDRAINS_WITHIN: Duration = Duration::from_secs(2);

impl Actor {
    /// New first, then the old one retired, so that there is always a target (F02).
    pub(super) async fn publish(&mut self, new: Generation, old: Option<Generation>) -> Vec<Input> {
        let faults = self.effects.shared.faults;
        let Some(held) = self.held.get_mut(&new) else { return Vec::new() };
        let Some(life) = &held.life else { return Vec::new() };
        let role = held.role();
        let target = self.effects.target(new, life);
        held.target = Some(target.clone());
        held.view.target = Some(target.clone());
        self.effects.shared.metrics.published(&self.effects.id);
        if role == Role::Worker {
            self.set_to_work(new).await;
            return old.map(|old| self.retire(old)).unwrap_or_default();
        }
        let mut inputs = Vec::new();
        if faults.has(Fault::RetireFirst) {
            self.route.withdraw(Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: None });
            inputs.extend(old.map(|old| self.retire(old)).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.show_with(|route| route.publish(target));
        } else {
            self.show_with(|route| route.publish(target));
            inputs.extend(old.map(|old| self.retire(old)).unwrap_or_default());
        }
        if faults.has(Fault::NoDrain)
            && let Some(old) = old
        {
            self.signal(old, Signal::SIGKILL);
        }
        inputs
    }

    /// One that has served serves again: its drain is taken back before a request can find it.
    pub(super) async fn restore(&mut self, back: Generation, old: Option<Generation>) -> Vec<Input> {
        let Some(held) = self.held.get_mut(&back) else { return Vec::new() };
        let Some(life) = &held.life else { return Vec::new() };
        let (role, link) = (held.role(), life.link.clone());
        if let Some(Draining { taken_back, task }) = held.drain.take() {
            taken_back.cancel();
            // A child that does not answer is shown as unready by its probes, like any that serves.
            let undrained = async {
                task.await.ok();
                match role {
                    Role::Server => self.effects.clone().undrain(back, link).await,
                    // It works again when it is set to work.
                    Role::Worker => {}
                }
            };
            tokio::time::timeout(UNDRAINS_WITHIN, undrained).await.ok();
        }
        let Some(held) = self.held.get_mut(&back) else { return Vec::new() };
        let Some(life) = &held.life else { return Vec::new() };
        let target = match held.target.clone() {
            Some(target) => {
                target.restore();
                target
            }
            None => self.effects.target(back, life),
        };
        held.standby.store(false, Ordering::Release);
        held.paused = CancellationToken::new();
        held.at_retire = None;
        held.target = Some(target.clone());
        held.view.target = Some(target.clone());
        held.view.child_load = None;
        self.effects.shared.metrics.published(&self.effects.id);
        match role {
            Role::Worker => self.set_to_work(back).await,
            Role::Server => drop(self.show_with(|route| route.publish(target))),
        }
        old.map(|old| self.retire(old)).unwrap_or_default()
    }

    /// A worker gets no requests, and its target leases none; it begins by the end of its pause. One that does
    /// not begin within a probe's time is told again and again, until it is retired.
    async fn set_to_work(&mut self, generation: Generation) {
        self.show_with(|route| {
            route.withdraw(Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: None });
        });
        if let Some(held) = self.held.get(&generation)
            && let Some(life) = &held.life
        {
            let resume = self.effects.clone().resume(generation, life.link.clone());
            let cancel = held.paused.clone();
            let begun = tokio::spawn(async move { cancel.run_until_cancelled(resume).await });
            tokio::time::timeout(self.effects.shared.probes.timeout, begun).await.ok();
        }
    }

    /// No request finds it any more; what it admitted goes on, and is counted from here.
    pub(super) fn retire(&mut self, generation: Generation) -> Vec<Input> {
        let Some(held) = self.held.get_mut(&generation) else { return Vec::new() };
        let Some(target) = held.target.clone() else { return Vec::new() };
        target.retire();
        held.standby.store(true, Ordering::Release);
        held.paused.cancel();
        held.at_retire = Some(target.load());
        let (cancel, tell) = (held.cancel.clone(), self.tell.clone());
        tokio::spawn(async move {
            if cancel.run_until_cancelled(target.idle()).await.is_some() {
                let leases = target.load().by_class;
                tell.send(Event::Input(Input::Leases(generation, leases))).await.ok();
            }
        });
        let leases = self.leases(generation).map(|leases| Input::Leases(generation, leases));
        // Before its process can be gone, and the count with it.
        leases.into_iter().chain(self.answers(generation)).collect()
    }
}

/// Answers, where errors can take a build back.
impl Actor {
    /// Tells the slot what its generations have answered, now and then.
    pub(super) async fn count_answers(&mut self) {
        let now = self.effects.shared.clock.now();
        if now < self.answers_at {
            return;
        }
        let counted: Vec<Generation> = self.slot.wants_answers().collect();
        if counted.is_empty() {
            return;
        }
        self.answers_at = now.after(ANSWERS_EVERY);
        for generation in counted {
            if let Some(input) = self.answers(generation) {
                self.drive(input).await;
            }
        }
    }

    fn answers(&self, generation: Generation) -> Option<Input> {
        let Answered { all, errors } = self.held.get(&generation)?.target.as_ref()?.answered();
        Some(Input::Answers(generation, Answers { all, errors }))
    }
}

impl Effects {
    /// A generation as the data plane sees it.
    fn target(&self, generation: Generation, life: &Life) -> Arc<Target> {
        let label =
            TargetLabel::Generation { service: self.id.service.clone(), version: self.id.name.clone(), generation };
        let to = match &life.link.socket {
            Some(socket) => Upstream::Unix(socket.clone()),
            None => Upstream::Tcp(([127, 0, 0, 1], life.port.port()).into()),
        };
        let dial = Dial { to, version: life.protocol, tls: None };
        Target::new(label, Voucher::Nonce(life.nonce.clone()), dial, self.shared.clock)
    }
}
