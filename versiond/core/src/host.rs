//! The host's own lifecycle: starting → serving ⇄ cordoned → announcing → draining → stopping →
//! stopped, forcing from any.
//!
//! A cordon is durable and the operator's; the way out is the signal's. Must not live here: how a
//! slot empties (that is `slot`), sockets, clocks.

use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;

/// The durations of the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTimings {
    /// How long routers get to notice before anything is refused; zero where there is no router.
    pub announce: Duration,
    /// The longest drain of the host.
    pub drain: Duration,
    /// The tail of the budget that is kept for stopping children.
    pub stop_grace: Duration,
    /// From the signal to the last exit, all included.
    pub budget: Duration,
}

/// A cordon: unready, so that routers move on, while everything that arrives is still admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cordon {
    pub mode: DrainMode,
    pub since: Tick,
}

/// The state of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    state: State,
    timings: HostTimings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not every desired slot has had its verdict yet. A cordon may be remembered from before.
    Starting {
        cordon: Option<Cordon>,
    },
    Serving,
    Cordoned(Cordon),
    Announcing {
        began: Tick,
        until: Tick,
        deadline: Tick,
    },
    Draining {
        began: Tick,
        drained_by: Tick,
        deadline: Tick,
    },
    Stopping {
        began: Tick,
        deadline: Tick,
    },
    Forcing {
        began: Tick,
    },
    Stopped,
}

/// Why a cordon was not set or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CordonError {
    #[error("the host is on its way out; a cordon changes nothing any more")]
    Leaving,
}

impl Host {
    /// A host that starts, with the cordon that the ledger remembers.
    #[must_use]
    pub fn new(timings: HostTimings, cordon: Option<Cordon>) -> Host {
        Host { state: State::Starting { cordon }, timings }
    }

    /// Where it stands, as the API shows it.
    #[must_use]
    pub fn state(&self) -> HostState {
        match self.state {
            State::Starting { .. } => HostState::Starting,
            State::Serving => HostState::Serving,
            State::Cordoned(_) => HostState::Cordoned,
            State::Announcing { .. } => HostState::Announcing,
            State::Draining { .. } => HostState::Draining,
            State::Stopping { .. } => HostState::Stopping,
            State::Forcing { .. } => HostState::Forcing,
            State::Stopped => HostState::Stopped,
        }
    }

    /// Whether a router may send new work here: serving, and at least one child live-ready. The
    /// convergence is a latch: once the host serves, no later failure of a catalog withdraws it.
    #[must_use]
    pub fn is_ready(&self, live_children: usize) -> bool {
        self.state == State::Serving && live_children > 0
    }

    /// Whether a request that arrives is taken. Only the stop path refuses.
    #[must_use]
    pub fn admits(&self) -> bool {
        match self.state {
            State::Starting { .. } | State::Serving | State::Cordoned(_) | State::Announcing { .. } => true,
            State::Draining { .. } | State::Stopping { .. } | State::Forcing { .. } | State::Stopped => false,
        }
    }

    /// Whether each response says that its connection ends.
    #[must_use]
    pub fn announces(&self) -> bool {
        match self.state {
            State::Announcing { .. } | State::Draining { .. } | State::Stopping { .. } => true,
            State::Starting { .. } | State::Serving | State::Cordoned(_) | State::Forcing { .. } | State::Stopped => {
                false
            }
        }
    }

    /// The cordon in force or remembered.
    #[must_use]
    pub fn cordon(&self) -> Option<Cordon> {
        match self.state {
            State::Starting { cordon } => cordon,
            State::Cordoned(cordon) => Some(cordon),
            State::Serving
            | State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => None,
        }
    }

    /// When the way out began.
    #[must_use]
    pub fn leaving_since(&self) -> Option<Tick> {
        match self.state {
            State::Announcing { began, .. }
            | State::Draining { began, .. }
            | State::Stopping { began, .. }
            | State::Forcing { began } => Some(began),
            State::Starting { .. } | State::Serving | State::Cordoned(_) | State::Stopped => None,
        }
    }

    /// The tick by which every admitted request must be over, on the way out.
    #[must_use]
    pub fn drained_by(&self) -> Option<Tick> {
        match self.state {
            State::Announcing { until, deadline, .. } => Some(self.drain_end(until, deadline)),
            State::Draining { drained_by, .. } => Some(drained_by),
            State::Starting { .. }
            | State::Serving
            | State::Cordoned(_)
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => None,
        }
    }

    /// Every desired slot has had its verdict: the host serves, or is cordoned as it was before.
    pub fn converged(&mut self) -> bool {
        let State::Starting { cordon } = self.state else { return false };
        self.state = cordon.map_or(State::Serving, State::Cordoned);
        true
    }

    /// An operator wants the host empty.
    pub fn set_cordon(&mut self, mode: DrainMode, now: Tick) -> Result<(), CordonError> {
        match &mut self.state {
            State::Starting { cordon } => {
                *cordon = Some(cordon.map_or(Cordon { mode, since: now }, |old| Cordon { mode, ..old }))
            }
            State::Serving => self.state = State::Cordoned(Cordon { mode, since: now }),
            State::Cordoned(cordon) => cordon.mode = mode,
            State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => return Err(CordonError::Leaving),
        }
        Ok(())
    }

    /// An operator takes that back.
    pub fn clear_cordon(&mut self) -> Result<(), CordonError> {
        match &mut self.state {
            State::Starting { cordon } => *cordon = None,
            State::Serving => {}
            State::Cordoned(_) => self.state = State::Serving,
            State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => return Err(CordonError::Leaving),
        }
        Ok(())
    }

    /// The stop signal. A second one changes nothing. A host that no router knows yet does not announce.
    pub fn stop(&mut self, now: Tick) -> bool {
        let announce = match self.state {
            State::Starting { .. } => Duration::ZERO,
            State::Serving | State::Cordoned(_) => self.timings.announce,
            State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => return false,
        };
        let deadline = now.after(self.timings.budget);
        self.state = State::Announcing { began: now, until: now.after(announce), deadline };
        self.tick(0, now);
        true
    }

    /// Everything ends now.
    pub fn force(&mut self, now: Tick) -> bool {
        match self.state {
            State::Forcing { .. } | State::Stopped => false,
            State::Starting { .. }
            | State::Serving
            | State::Cordoned(_)
            | State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. } => {
                self.state = State::Forcing { began: self.leaving_since().unwrap_or(now) };
                true
            }
        }
    }

    /// Time has passed, `inflight` requests are in flight. Returns whether the state changed.
    pub fn tick(&mut self, inflight: u64, now: Tick) -> bool {
        match self.state {
            State::Announcing { began, until, deadline } if now >= until => {
                self.state = State::Draining { began, drained_by: self.drain_end(until, deadline), deadline };
                true
            }
            State::Draining { began, drained_by, deadline } if inflight == 0 || now >= drained_by => {
                self.state = State::Stopping { began, deadline };
                true
            }
            State::Stopping { began, deadline } if now >= deadline => {
                self.state = State::Forcing { began };
                true
            }
            State::Starting { .. }
            | State::Serving
            | State::Cordoned(_)
            | State::Announcing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Forcing { .. }
            | State::Stopped => false,
        }
    }

    /// Every process has been reaped.
    pub fn all_gone(&mut self) -> bool {
        match self.state {
            State::Draining { .. } | State::Stopping { .. } | State::Forcing { .. } => {
                self.state = State::Stopped;
                true
            }
            State::Starting { .. }
            | State::Serving
            | State::Cordoned(_)
            | State::Announcing { .. }
            | State::Stopped => false,
        }
    }

    /// When to call `tick` at the latest.
    #[must_use]
    pub fn wake(&self) -> Option<Tick> {
        match self.state {
            State::Announcing { until, .. } => Some(until),
            State::Draining { drained_by, .. } => Some(drained_by),
            State::Stopping { deadline, .. } => Some(deadline),
            State::Starting { .. } | State::Serving | State::Cordoned(_) | State::Forcing { .. } | State::Stopped => {
                None
            }
        }
    }

    /// The host's drain ends early enough that children keep their stop grace inside the budget.
    fn drain_end(&self, drain_began: Tick, deadline: Tick) -> Tick {
        let reserved = Tick(deadline.0.saturating_sub(supervisor_protocol::time::millis(self.timings.stop_grace)));
        drain_began.after(self.timings.drain).min(reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMINGS: HostTimings = HostTimings {
        announce: Duration::from_secs(8),
        drain: Duration::from_secs(900),
        stop_grace: Duration::from_secs(600),
        budget: Duration::from_secs(1500),
    };

    fn serving() -> Host {
        let mut host = Host::new(TIMINGS, None);
        assert!(host.converged());
        host
    }

    #[test]
    fn f25_convergence_is_a_latch() {
        let mut host = serving();
        assert!(host.is_ready(1));
        assert!(!host.is_ready(0));
        assert!(!host.converged(), "there is no way back to starting");
        assert_eq!(host.state(), HostState::Serving);
    }

    #[test]
    fn f62_a_cordoned_host_is_unready_and_still_admits() {
        let mut host = serving();
        host.set_cordon(DrainMode::All, Tick(5)).unwrap();
        assert!(!host.is_ready(3));
        assert!(host.admits());
        host.clear_cordon().unwrap();
        assert!(host.is_ready(3));
    }

    #[test]
    fn f50_a_cordon_set_before_the_start_is_in_force_after_it() {
        let mut host = Host::new(TIMINGS, Some(Cordon { mode: DrainMode::Sessions, since: Tick::ZERO }));
        host.converged();
        assert_eq!(host.state(), HostState::Cordoned);
        assert_eq!(host.cordon().map(|cordon| cordon.mode), Some(DrainMode::Sessions));
    }

    #[test]
    fn f29_f34_one_budget_covers_the_way_out_and_keeps_the_tail_for_the_children() {
        let mut host = serving();
        let start = Tick(1_000);
        assert!(host.stop(start));
        assert_eq!(host.state(), HostState::Announcing);
        assert!(host.admits() && host.announces() && !host.is_ready(9));
        assert!(!host.tick(9, start.after(Duration::from_secs(7))));
        assert!(host.tick(9, start.after(Duration::from_secs(8))));
        assert_eq!(host.state(), HostState::Draining);
        assert!(!host.admits());
        // 8 s announced + 900 s drained would end at 908 s; 1500 - 600 = 900 s comes first.
        assert_eq!(host.drained_by(), Some(start.after(Duration::from_secs(900))));
        assert!(!host.tick(1, start.after(Duration::from_secs(899))));
        assert!(host.tick(1, start.after(Duration::from_secs(900))));
        assert_eq!(host.state(), HostState::Stopping);
        assert!(host.tick(0, start.after(Duration::from_secs(1500))));
        assert_eq!(host.state(), HostState::Forcing);
        assert!(host.all_gone());
        assert_eq!(host.state(), HostState::Stopped);
    }

    #[test]
    fn f35_a_second_signal_does_not_force_and_f31_nothing_promotes_a_host_that_leaves() {
        let mut host = Host::new(TIMINGS, None);
        assert!(host.stop(Tick(10)));
        assert_eq!(host.state(), HostState::Draining, "a host that never served has nobody to announce to");
        assert!(!host.stop(Tick(20)));
        assert!(!host.converged());
        assert_eq!(host.state(), HostState::Draining);
        assert_eq!(host.set_cordon(DrainMode::All, Tick(30)), Err(CordonError::Leaving));
        assert!(host.force(Tick(40)));
        assert_eq!(host.state(), HostState::Forcing);
    }
}
