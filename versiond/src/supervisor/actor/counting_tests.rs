use std::time::Duration;

use supervisor_protocol::ByClass;
use supervisor_protocol::contract::{Role, StateKind};
use versiond_core::generation::{Facts, Gen, Probe};
use versiond_core::memory::Memory;
use versiond_core::policy::{Mode, Policy};
use versiond_core::slot::{NotLaunched, Want};
use versiond_core::timings::Timings;

use super::*;

/// A slot whose children do at once what they are told, and what of it is counted.
struct Rig {
    slot: Slot,
    counting: Counting,
    counted: Vec<Counted>,
    state: StateKind,
    next: u64,
    now: Tick,
}

fn build(byte: u8) -> Artifact {
    Artifact { sha256: Sha256([byte; 32]), urls: Vec::new(), size: None, entry: None, irreversible: false }
}

impl Rig {
    fn new(state: StateKind, mode: Mode) -> Rig {
        let policy = Policy { mode, ..Policy::default() };
        let slot = Slot::new(Timings::default(), policy, Memory::default());
        Rig { slot, counting: Counting::default(), counted: Vec::new(), state, next: 1, now: Tick(1_000) }
    }

    /// Tells the slot something, and lets everything that follows succeed up to readiness, 100 ms for each step.
    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.counted.extend(self.counting.told(&self.slot, &input));
            let steps = self.slot.handle(input, Generation(self.next), self.now);
            self.counted.extend(self.counting.saw(&self.slot, &steps, self.now));
            for step in steps {
                self.now = self.now.after(Duration::from_millis(100));
                inputs.extend(self.answer(step));
            }
        }
    }

    fn answer(&mut self, step: Step) -> Option<Input> {
        match step {
            Step::Fetch(number, _) => {
                self.next += 1;
                Some(Input::Fetched(number))
            }
            Step::Describe(number) => {
                let (state, binary_version) = (self.state, "1".to_owned());
                let facts =
                    Facts { binary_version, role: Role::Server, state, undrain: true, data: None, exclusive: false };
                Some(Input::Described(number, facts))
            }
            Step::Start(number) => Some(Input::Launched(number)),
            Step::Terminate(number) => Some(Input::Exited(number, Exit::Code(0))),
            Step::Publish { .. }
            | Step::Restore { .. }
            | Step::Hold { .. }
            | Step::Evacuate(..)
            | Step::Withdraw(..)
            | Step::Absent(_)
            | Step::Cut(..)
            | Step::DrainChild(_)
            | Step::Park(..)
            | Step::Kill(_)
            | Step::Forget(..) => None,
        }
    }

    fn want(&mut self, byte: u8) {
        self.tell(Input::Want(Want::Serve(build(byte))));
    }

    fn candidate(&self) -> Generation {
        self.slot.candidate().unwrap().number
    }

    fn ready(&mut self) {
        let number = self.candidate();
        self.tell(Input::Probed(number, Probe::Ready));
    }

    /// Something serves.
    fn serving(mut self, byte: u8) -> Rig {
        self.want(byte);
        self.ready();
        assert_eq!(self.slot.serving().map(Gen::sha256), Some(Sha256([byte; 32])));
        self
    }

    fn exits(&mut self, number: Generation, exit: Exit) {
        self.tell(Input::Exited(number, exit));
    }

    fn taken(&mut self) -> Vec<Counted> {
        std::mem::take(&mut self.counted)
    }
}

const CRASH: Exit = Exit::Signal(11);

#[test]
fn a_first_start_is_no_swap_and_one_beside_what_serves_is_counted_with_its_time() {
    let mut rig = Rig::new(StateKind::Shared, Mode::Auto).serving(1);
    assert_eq!(rig.taken(), []);
    rig.want(2);
    rig.ready();
    // Fetched, asked, started, launched.
    let [Counted::Swap(Way::Overlap, Swapped::Done(took))] = rig.taken()[..] else { panic!() };
    assert_eq!(took, Duration::from_millis(300));
}

#[test]
fn a_swap_takes_no_time_while_it_waits_for_a_persons_word() {
    let mut rig = Rig::new(StateKind::Shared, Mode::Staged).serving(1);
    rig.want(2);
    rig.now = rig.now.after(Duration::from_secs(3_600));
    let approve = supervisor_protocol::admin::Verb::Approve { accept_downtime: false, force_order: false };
    rig.slot.command(&approve, rig.now).unwrap();
    rig.tell(Input::Tick);
    rig.ready();
    let [Counted::Swap(Way::Overlap, Swapped::Done(took))] = rig.taken()[..] else { panic!() };
    assert_eq!(took, Duration::from_millis(100));
}

#[test]
fn a_crash_is_counted_with_its_restart_and_a_build_on_trial_that_crashes_is_rolled_back() {
    let mut rig = Rig::new(StateKind::Shared, Mode::Auto).serving(1);
    let one = rig.slot.serving().unwrap().number;
    rig.exits(one, CRASH);
    assert_eq!(rig.taken(), [Counted::Crash(CRASH)]);
    rig.now = rig.now.after(Duration::from_secs(60));
    rig.tell(Input::Tick);
    rig.ready();
    assert_eq!(rig.taken(), [Counted::Restart]);

    rig.want(2);
    rig.ready();
    let two = rig.slot.serving().unwrap().number;
    rig.exits(two, CRASH);
    let [Counted::Swap(Way::Overlap, Swapped::Done(_)), crash, back] = rig.taken()[..] else { panic!() };
    assert_eq!((crash, back), (Counted::Crash(CRASH), Counted::Swap(Way::Overlap, Swapped::RolledBack)));
}

#[test]
fn a_candidate_that_ends_has_failed_and_one_that_is_not_wanted_any_more_has_not() {
    let mut rig = Rig::new(StateKind::Shared, Mode::Auto).serving(1);
    rig.want(2);
    let two = rig.candidate();
    rig.exits(two, Exit::Code(1));
    assert_eq!(rig.taken(), [Counted::Crash(Exit::Code(1)), Counted::Swap(Way::Overlap, Swapped::Failed)]);
    rig.want(3);
    rig.want(1);
    assert_eq!(rig.taken(), [Counted::Swap(Way::Overlap, Swapped::Abandoned)]);
    // One that never gets ready is stopped for it, long before it is gone.
    rig.want(4);
    rig.now = rig.now.after(Duration::from_secs(61));
    let one = rig.slot.serving().unwrap().number;
    rig.tell(Input::Probed(one, Probe::Ready));
    assert_eq!(rig.taken(), [Counted::Swap(Way::Overlap, Swapped::Failed)]);
}

#[test]
fn a_hold_is_given_up_or_done_and_what_fails_before_it_takes_a_place_is_no_swap() {
    let mut rig = Rig::new(StateKind::Local, Mode::Auto).serving(1);
    let one = rig.slot.serving().unwrap().number;
    rig.want(2);
    rig.tell(Input::Forecast(one, 0));
    assert_eq!(rig.slot.serving().map(|serving| serving.number), None, "it holds");
    rig.tell(Input::Compared(one, Probe::Ready));
    rig.now = rig.now.after(Duration::from_secs(30));
    rig.tell(Input::Leases(one, ByClass { stream: 1, ..ByClass::default() }));
    assert_eq!(rig.taken(), [Counted::Swap(Way::Hold, Swapped::GivenUp)]);

    rig.now = rig.now.after(Duration::from_secs(61));
    rig.tell(Input::Probed(one, Probe::Ready));
    rig.tell(Input::Forecast(one, 0));
    rig.tell(Input::Leases(one, ByClass::default()));
    rig.tell(Input::ChildLoad(one, 0));
    rig.ready();
    let [Counted::Swap(Way::Hold, Swapped::Done(_))] = rig.taken()[..] else { panic!("{:?}", rig.slot) };

    let mut rig = Rig::new(StateKind::Local, Mode::Auto).serving(1);
    rig.want(2);
    let two = rig.candidate();
    rig.tell(Input::LaunchFailed(two, NotLaunched::Ports { range: "1-1".to_owned() }));
    assert_eq!(rig.taken(), []);
}
