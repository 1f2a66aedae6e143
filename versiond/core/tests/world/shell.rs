//! The simulated shell: it hands inputs to the machine and carries out the steps that follow, as the
//! daemon's actor does, while the truth checks each of them.

use std::time::Duration;

use supervisor_protocol::Generation;
use versiond_core::generation::{Exit, Probe};
use versiond_core::replay::Act;
use versiond_core::slot::{Failed, Input, Step};

use crate::world::life::Stage;
use crate::world::story::ChildDrain;
use crate::world::{Event, World};

impl World {
    /// What the shell does with every input: first it counts the leases of whatever is leaving.
    pub(super) fn deliver(&mut self, input: Input) {
        let leaving = self.slot.generations().filter(|generation| generation.is_leaving());
        let numbers: Vec<Generation> = leaving.map(|generation| generation.number).collect();
        for number in numbers {
            let counts = self.truth.lives[&number].counts();
            self.handle(Input::Leases(number, counts));
        }
        self.handle(input);
        self.check_state();
        if !self.asked && self.slot.wants_forecast(self.truth.now).is_some() {
            self.asked = true;
            self.schedule(200, Event::Forecast);
        }
    }

    fn handle(&mut self, input: Input) {
        self.note(&input);
        let (next, before) = (self.next, self.slot.memory().clone());
        let steps = self.slot.handle(input.clone(), next, self.truth.now);
        self.record(Act::Input { next, input: input.clone() }, &steps);
        assert!(steps.len() < 32, "the plan repeats itself: {steps:?}");
        self.check_errors(&before);
        let mut inputs = Vec::new();
        for step in &steps {
            self.truth.step(step, &input, next);
            inputs.extend(self.carry_out(step));
        }
        for input in inputs {
            self.handle(input);
        }
    }

    /// What the machine learns by an input.
    fn note(&mut self, input: &Input) {
        let now = self.truth.now;
        match input {
            Input::Want(want) => self.truth.want(want),
            Input::Denied(denied) => self.truth.deny(denied),
            Input::Fetched(number) => self.reaches(*number, Stage::Fetching, Stage::Fetched),
            Input::Described(number, _) => self.reaches(*number, Stage::Describing, Stage::Described),
            Input::Launched(number) => {
                self.reaches(*number, Stage::Making, Stage::Made);
                self.life(*number).warming.get_or_insert((now, now));
            }
            Input::Probed(number, probe) => {
                let life = self.life(*number);
                life.ready = *probe == Probe::Ready;
                if !life.is_standby() {
                    life.hears(probe, now);
                }
                if let (Probe::Initializing { .. }, Some((extended, _))) = (probe, &mut life.warming) {
                    *extended = now;
                }
            }
            Input::Compared(number, probe) => {
                let life = self.life(*number);
                if life.is_standby() {
                    life.hears(probe, now);
                }
            }
            Input::Answers(number, answers) => self.truth.told_answers(*number, *answers, self.slot.memory()),
            Input::ChildLoad(number, load) => {
                let life = self.life(*number);
                if life.stage == Stage::Draining {
                    life.child = Some(*load);
                }
            }
            Input::FetchFailed(..)
            | Input::PreflightFailed(..)
            | Input::NotIsolated(..)
            | Input::LaunchFailed(..)
            | Input::Leases(..)
            | Input::Exited(..)
            | Input::Forecast(..)
            | Input::Peer { .. }
            | Input::Claimed(_)
            | Input::Opening(_)
            | Input::Tick => {}
        }
    }

    fn reaches(&mut self, number: Generation, from: Stage, to: Stage) {
        let life = self.life(number);
        if life.stage == from {
            life.stage = to;
        }
    }

    /// Does what a step says; what it causes at once comes back.
    fn carry_out(&mut self, step: &Step) -> Option<Input> {
        match step {
            Step::Fetch(number, _) => {
                self.next = Generation(number.0 + 1 + self.latency() % 3);
                let build = self.truth.lives[number].build;
                let answer = if self.failures_left[build] == 0 {
                    Input::Fetched(*number)
                } else if self.failures_left[build] == u8::MAX {
                    Input::FetchFailed(*number, Failed::Hash { found: "0".repeat(64) })
                } else {
                    self.failures_left[build] -= 1;
                    Input::FetchFailed(*number, Failed::Fetch("unreachable".to_owned()))
                };
                self.later(Event::Answer(answer));
            }
            Step::Describe(number) => {
                let build = &self.truth.builds[self.truth.lives[number].build];
                let answer = if build.describes {
                    Input::Described(*number, build.facts())
                } else {
                    Input::PreflightFailed(*number, "usage".to_owned())
                };
                self.later(Event::Answer(answer));
            }
            Step::Start(number) => self.later(Event::Launch(*number)),
            Step::Publish { new, old } => {
                let build = self.truth.lives[new].build;
                if let (Some((after, _)), true) = (self.truth.builds[build].crash, self.crashes_left[build] > 0) {
                    self.crashes_left[build] -= 1;
                    self.schedule(after, Event::Ends(*new, Exit::Signal(6)));
                }
                return old.map(|old| Input::Leases(old, self.truth.lives[&old].counts()));
            }
            Step::Withdraw(number, _) => return Some(Input::Leases(*number, self.truth.lives[number].counts())),
            Step::Restore { old, .. } => return old.map(|old| Input::Leases(old, self.truth.lives[&old].counts())),
            Step::Hold { old, .. } => return Some(Input::Leases(*old, self.truth.lives[old].counts())),
            Step::Evacuate(..) => panic!("this host has no peers"),
            Step::Absent(_) | Step::Forget(..) | Step::Park(..) => {}
            Step::Cut(..) => self.later(Event::Idle),
            Step::DrainChild(number) => {
                let life = &self.truth.lives[number];
                let drain = life.drains;
                match self.truth.builds[life.build].drain {
                    ChildDrain::EmptyAfter(ms) => {
                        let empty_at = self.truth.now.after(Duration::from_millis(ms));
                        self.later(Event::Count(*number, drain, empty_at));
                    }
                    ChildDrain::NoAnswer => {}
                    ChildDrain::ExitsAfter(ms, code) => {
                        self.schedule(ms, Event::Drains(*number, drain, Exit::Code(code)));
                    }
                }
            }
            Step::Terminate(number) | Step::Kill(number) => self.signal(*number),
        }
        None
    }
}
