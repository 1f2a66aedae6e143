//! The host's lifecycle under random operations, against a table of what each may do.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use supervisor_protocol::Tick;
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;
use versiond_core::host::{Cordon, Host, HostTimings};

#[derive(Debug, Clone, Copy)]
enum Op {
    Converged,
    Cordon(DrainMode),
    Uncordon,
    Stop,
    Force,
    /// So many milliseconds pass, and so many requests are in flight.
    Tick(u64, u64),
    /// The moment that the host asks for comes, and a request is still in flight.
    Wake,
    AllGone,
}

/// The reference: the state, what it remembers of the operator, and when the way out began.
#[derive(Debug, Clone, Copy)]
struct Table {
    timings: HostTimings,
    state: HostState,
    cordon: Option<DrainMode>,
    left_at: Option<Tick>,
    /// When routers had had their time: the drain counts from here.
    announced: Tick,
}

impl Table {
    fn budget_end(&self) -> Option<Tick> {
        self.left_at.map(|left_at| left_at.after(self.timings.budget))
    }

    /// The last moment for admitted work: the drain's own length, and the children's grace is kept free.
    fn drain_end(&self) -> Option<Tick> {
        let budget_end = self.budget_end()?;
        let kept = Tick(budget_end.0.saturating_sub(u64::try_from(self.timings.stop_grace.as_millis()).unwrap()));
        Some(self.announced.after(self.timings.drain).min(kept))
    }

    /// The state after an operation, as the design's list of edges has it.
    fn after(mut self, op: Op, now: Tick) -> Table {
        use HostState::{Announcing, Cordoned, Draining, Forcing, Serving, Starting, Stopped, Stopping};
        let inflight = match op {
            Op::Tick(_, inflight) => inflight,
            Op::Wake | Op::Converged | Op::Cordon(_) | Op::Uncordon | Op::Stop | Op::Force | Op::AllGone => 1,
        };
        match (self.state, op) {
            (Starting, Op::Converged) => self.state = if self.cordon.is_some() { Cordoned } else { Serving },
            (Starting | Serving | Cordoned, Op::Cordon(mode)) => {
                self.cordon = Some(mode);
                self.state = if self.state == Starting { Starting } else { Cordoned };
            }
            (Starting | Serving | Cordoned, Op::Uncordon) => {
                self.cordon = None;
                self.state = if self.state == Starting { Starting } else { Serving };
            }
            (Starting | Serving | Cordoned, Op::Stop) => {
                let announce = if self.state == Starting { Duration::ZERO } else { self.timings.announce };
                self.left_at = Some(now);
                self.announced = now.after(announce);
                self.state = if announce.is_zero() { Draining } else { Announcing };
            }
            (Starting | Serving | Cordoned | Announcing | Draining | Stopping, Op::Force) => {
                self.left_at = self.left_at.or(Some(now));
                self.state = Forcing;
            }
            (Announcing, Op::Tick(..) | Op::Wake) if now >= self.announced => self.state = Draining,
            (Draining, Op::Tick(..) | Op::Wake) if inflight == 0 || Some(now) >= self.drain_end() => {
                self.state = Stopping;
            }
            (Stopping, Op::Tick(..) | Op::Wake) if Some(now) >= self.budget_end() => self.state = Forcing,
            (Draining | Stopping | Forcing, Op::AllGone) => self.state = Stopped,
            (
                Starting | Serving | Cordoned | Announcing | Draining | Stopping | Forcing | Stopped,
                Op::Converged
                | Op::Cordon(_)
                | Op::Uncordon
                | Op::Stop
                | Op::Force
                | Op::Tick(..)
                | Op::Wake
                | Op::AllGone,
            ) => {}
        }
        self
    }

    fn is_leaving(&self) -> bool {
        rank(self.state) > 0
    }
}

/// How far on the way out; there is no way back to a smaller one.
fn rank(state: HostState) -> u8 {
    match state {
        HostState::Starting | HostState::Serving | HostState::Cordoned => 0,
        HostState::Announcing => 1,
        HostState::Draining => 2,
        HostState::Stopping => 3,
        HostState::Forcing => 4,
        HostState::Stopped => 5,
    }
}

/// Does an operation and returns whether the host says that it did something.
fn apply(host: &mut Host, op: Op, now: Tick) -> bool {
    match op {
        Op::Converged => host.converged(),
        Op::Cordon(mode) => host.set_cordon(mode, now).is_ok(),
        Op::Uncordon => host.clear_cordon().is_ok(),
        Op::Stop => host.stop(now),
        Op::Force => host.force(now),
        Op::Tick(_, inflight) => host.tick(inflight, now),
        Op::Wake => host.tick(1, now),
        Op::AllGone => host.all_gone(),
    }
}

fn check(host: &Host, table: &Table, before: &Table, op: Op) {
    assert_eq!(host.state(), table.state, "after {op:?} in {:?}", before.state);
    assert!(rank(table.state) >= rank(before.state), "a way back from {:?} to {:?}", before.state, table.state);

    // Only the stop path refuses, and only once routers have had their time.
    let refuses = rank(table.state) >= rank(HostState::Draining);
    assert_eq!(host.admits(), !refuses, "{:?}", table.state);
    for children in [0, 1, 7] {
        let ready = table.state == HostState::Serving && children > 0;
        assert_eq!(host.is_ready(children), ready, "{:?} with {children}", table.state);
    }
    assert_eq!(host.announces(), (1..=3).contains(&rank(table.state)));
    if !table.is_leaving() {
        assert_eq!(host.cordon().map(|cordon| cordon.mode), table.cordon, "F50: the operator's wish is kept");
    }
    if table.state != HostState::Stopped {
        assert_eq!(host.leaving_since(), table.left_at);
    }

    let expected = match table.state {
        HostState::Announcing => Some(table.announced),
        HostState::Draining => table.drain_end(),
        HostState::Stopping => table.budget_end(),
        HostState::Starting | HostState::Serving | HostState::Cordoned | HostState::Forcing | HostState::Stopped => {
            None
        }
    };
    assert_eq!(host.wake(), expected);
    if let (1 | 2, Some(drained_by), Some(left_at)) = (rank(table.state), host.drained_by(), table.left_at) {
        let kept = drained_by.after(table.timings.stop_grace);
        let room = table.timings.budget >= table.timings.stop_grace;
        assert!(!room || kept <= left_at.after(table.timings.budget), "F29, F34: the grace does not fit the budget");
        assert_eq!(Some(drained_by), table.drain_end());
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Converged),
        2 => Just(Op::Cordon(DrainMode::All)),
        1 => Just(Op::Cordon(DrainMode::Sessions)),
        2 => Just(Op::Uncordon),
        2 => Just(Op::Stop),
        1 => Just(Op::Force),
        6 => (0..20_000u64, 0..3u64).prop_map(|(ms, inflight)| Op::Tick(ms, inflight)),
        3 => Just(Op::Wake),
        1 => Just(Op::AllGone),
    ]
}

/// Also budgets that do not hold together: the machine must not depend on the check that refuses them.
fn timings() -> impl Strategy<Value = HostTimings> {
    (prop_oneof![Just(0), 1..20u64], 1..60u64, 1..60u64, 1..120u64).prop_map(|(announce, drain, grace, budget)| {
        HostTimings {
            announce: Duration::from_secs(announce),
            drain: Duration::from_secs(drain),
            stop_grace: Duration::from_secs(grace),
            budget: Duration::from_secs(budget),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    // F29, F31, F35, F50: one budget; no way back from leaving; a second signal changes nothing.
    #[test]
    fn the_host_goes_where_the_table_says(
        timings in timings(),
        remembered in prop::option::of(Just(DrainMode::All)),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let cordon = remembered.map(|mode| Cordon { mode, since: Tick::ZERO });
        let mut host = Host::new(timings, cordon);
        let mut table =
            Table { timings, state: HostState::Starting, cordon: remembered, left_at: None, announced: Tick::ZERO };
        let mut now = Tick(1_000);
        check(&host, &table, &table.clone(), Op::Converged);
        for op in ops {
            match op {
                Op::Tick(ms, _) => now = Tick(now.0 + ms),
                Op::Wake => now = host.wake().map_or(now, |at| now.max(at)),
                Op::Converged | Op::Cordon(_) | Op::Uncordon | Op::Stop | Op::Force | Op::AllGone => {}
            }
            let (before, was) = (table, host.clone());
            table = table.after(op, now);
            let did = apply(&mut host, op, now);
            check(&host, &table, &before, op);
            let is_operators = matches!(op, Op::Cordon(_) | Op::Uncordon);
            let expected = if is_operators { !before.is_leaving() } else { before.state != table.state };
            prop_assert_eq!(did, expected, "{:?} in {:?} says what it did", op, before.state);
            prop_assert!(did || host == was, "{:?} was refused and changed something", op);
        }
        // Left alone it ends on time: each moment that it asks for brings it on.
        if table.is_leaving() {
            let end = host.leaving_since().map(|since| since.after(timings.budget.max(timings.announce)));
            let began = now;
            for _ in 0..3 {
                now = host.wake().map_or(now, |at| now.max(at));
                host.tick(1, now);
            }
            prop_assert_eq!(host.wake(), None);
            prop_assert!(rank(host.state()) >= rank(HostState::Forcing));
            prop_assert!(end.is_none_or(|end| now <= end.max(began)), "F35: it ends at {now:?}, its budget at {end:?}");
            prop_assert!(host.all_gone() || host.state() == HostState::Stopped);
        }
    }
}
