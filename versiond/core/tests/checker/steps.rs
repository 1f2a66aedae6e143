//! A step of the slot, carried out in the world as the actor does it.
//!
//! Must not live here: when (that is `acts`), and whether it should have been (that is `promises`).

use versiond_core::evacuate::Evacuate;
use versiond_core::generation::Exit;
use versiond_core::slot::{Absent, Input, Step};

use crate::scope::{Sabotage, Scope};
use crate::world::{Do, Route, Target, Task, World};

impl World {
    pub(crate) fn carry_out(&mut self, scope: &Scope, step: Step) {
        let World { facts, daemon: Some(daemon) } = self else { return };
        let rest = &mut daemon.rest;
        match step {
            Step::Fetch(number, _) => {
                rest.next = number.0 + 1;
                facts.disk.next = rest.next;
                rest.tasks.insert(Task::Fetch(number));
            }
            Step::Describe(number) => drop(rest.tasks.insert(Task::Describe(number))),
            Step::Start(number) => drop(rest.tasks.insert(Task::Launch(number))),
            Step::Publish { new, old } => {
                rest.targets.insert(new, Target { retired: None, leases: 0 });
                daemon.swap(scope, new, old);
            }
            Step::Restore { back, old } => {
                if let Some(process) = facts.processes.get_mut(&back) {
                    process.draining = false;
                }
                rest.tasks.remove(&Task::Count(back));
                if let Some(target) = rest.targets.get_mut(&back) {
                    target.retired = None;
                }
                daemon.swap(scope, back, old);
            }
            Step::Hold { old, until, .. } => {
                let absent = Route::Absent(Absent::Hold { until: Some(until) });
                daemon.first(vec![Do::Route(absent), Do::Retire(old)]);
            }
            Step::Evacuate(new, Evacuate::Claim) => daemon.first(vec![Do::Handle(Input::Claimed(new))]),
            Step::Evacuate(_, Evacuate::Leave { .. } | Evacuate::StepBack) => {}
            Step::Withdraw(number, absent) => {
                daemon.first(vec![Do::Route(Route::Absent(absent)), Do::Retire(number)]);
            }
            Step::Absent(absent) => rest.route = Route::Absent(absent),
            Step::Cut(number, _) => {
                if let Some(target) = rest.targets.get_mut(&number) {
                    target.leases = 0;
                }
            }
            Step::DrainChild(number) => {
                if let Some(process) = facts.processes.get_mut(&number) {
                    process.draining = true;
                }
                rest.tasks.insert(Task::Count(number));
            }
            Step::Park(number, _) => drop(rest.tasks.remove(&Task::Count(number))),
            Step::Terminate(number) => {
                rest.tasks.remove(&Task::Count(number));
                rest.stops.insert(number, facts.now);
                if let Some(process) = facts.processes.get_mut(&number) {
                    process.stopped = true;
                    if scope.sabotage == Some(Sabotage::NoticesEarly) {
                        daemon.first(vec![Do::Handle(Input::Exited(number, Exit::Code(0)))]);
                    }
                }
            }
            Step::Kill(number) => {
                facts.processes.remove(&number);
                if let Some(target) = rest.targets.get_mut(&number) {
                    target.leases = 0;
                }
            }
            Step::Forget(number, _) => {
                rest.tasks.retain(|task| task.generation() != number);
                rest.targets.remove(&number);
                rest.stops.remove(&number);
                // Not before nothing of it is left.
                if !facts.processes.contains_key(&number) {
                    facts.disk.processes.remove(&number);
                }
            }
        }
    }
}
