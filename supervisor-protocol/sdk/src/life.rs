//! The life of a child as its supervisor sees it: readiness, the gate that a drain closes, the work
//! in flight, and the bodies that tell of them. Pure; no clock, no sockets.

use supervisor_protocol::contract::{DrainMode, DrainState, DrainStatus, Ready};
use supervisor_protocol::time::millis;
use supervisor_protocol::{Nonce, StreamClass, Tick};

use crate::book::{Book, LeaseId};

/// Whether the child could serve. It says nothing of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The child has not said anything yet.
    Starting,
    /// It is getting there: the supervisor may extend its window.
    Initializing(String),
    Ready,
    /// It cannot serve, and says why.
    Unready(String),
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// A supervisor or operator has closed it; for a worker that has not been published, from the start.
    Draining(DrainMode),
    /// The stop signal has come. No way back.
    Stopping,
}

/// Why a request was refused before any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    Initializing,
    Draining,
    Stopping,
}

impl Refused {
    pub(crate) const ALL: [Refused; 3] = [Refused::Initializing, Refused::Draining, Refused::Stopping];

    /// The code in the not-admitted header, also the metric label.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Refused::Initializing => "initializing",
            Refused::Draining => "draining",
            Refused::Stopping => "stopping",
        }
    }
}

/// The stop signal has come, so that a drain can no longer be begun or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the child is stopping")]
pub(crate) struct AlreadyStopping;

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) standing: Standing,
    gate: Gate,
    book: Book,
    admitted: u64,
    refused: [u64; Refused::ALL.len()],
}

impl Life {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { standing: Standing::Starting, gate, book: Book::default(), admitted: 0, refused: [0; 3] }
    }

    /// One request asks to come in. `last_resort`: every other choice has refused, so it must be admitted.
    pub(crate) fn admit(&mut self, now: Tick, last_resort: bool) -> Result<LeaseId, Refused> {
        // Counted first, so that nobody who looks between the two sees an idle child that is about to work.
        let id = self.book.open(now);
        let refused = match self.gate {
            Gate::Open | Gate::Draining(DrainMode::Sessions) => None,
            Gate::Draining(DrainMode::All) => (!last_resort).then_some(Refused::Draining),
            Gate::Stopping => (!last_resort).then_some(Refused::Stopping),
        };
        match refused {
            None => {
                self.admitted += 1;
                Ok(id)
            }
            Some(refused) => {
                self.book.close(id);
                self.refuse(refused);
                Err(refused)
            }
        }
    }

    /// Work that an admitted request owes: it is never refused, and a drain waits for it.
    pub(crate) fn owe(&mut self, now: Tick) -> LeaseId {
        self.book.open(now)
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&mut self, refused: Refused) {
        self.refused[refused as usize] += 1;
    }

    pub(crate) fn classify(&mut self, id: LeaseId, class: StreamClass) {
        self.book.classify(id, class);
    }

    pub(crate) fn end(&mut self, id: LeaseId) {
        self.book.close(id);
    }

    pub(crate) fn drain(&mut self, mode: DrainMode) -> Result<(), AlreadyStopping> {
        self.turn(Gate::Draining(mode))
    }

    pub(crate) fn undrain(&mut self) -> Result<(), AlreadyStopping> {
        self.turn(Gate::Open)
    }

    pub(crate) fn stop(&mut self) {
        self.gate = Gate::Stopping;
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    pub(crate) fn admitted(&self) -> u64 {
        self.admitted
    }

    pub(crate) fn refused(&self, refused: Refused) -> u64 {
        self.refused[refused as usize]
    }

    pub(crate) fn inflight(&self) -> u64 {
        self.book.inflight()
    }

    /// The body of `GET /ready`, and a sentence beside its reason.
    pub(crate) fn ready(&self, nonce: Option<Nonce>) -> (Ready, Option<&str>) {
        let (ready, reason, detail) = match &self.standing {
            Standing::Starting => (false, Ready::INITIALIZING, None),
            Standing::Initializing(detail) => (false, Ready::INITIALIZING, Some(detail.as_str())),
            Standing::Ready => (true, "", None),
            Standing::Unready(reason) => (false, reason.as_str(), None),
        };
        let body = Ready {
            ready,
            draining: self.draining(),
            inflight: self.inflight(),
            reason: reason.to_owned(),
            nonce,
            recovery_complete: None,
        };
        (body, detail)
    }

    /// The body of `GET /drain/status`.
    pub(crate) fn drain_status(&self, now: Tick) -> DrainStatus {
        let inflight = self.inflight();
        let state = match (self.draining(), inflight) {
            (false, _) => DrainState::Serving,
            (true, 0) => DrainState::Drained,
            (true, _) => DrainState::Draining,
        };
        DrainStatus {
            state,
            draining: self.draining(),
            inflight,
            oldest_ms: millis(self.book.oldest(now)),
            by_class: self.book.by_class(),
        }
    }

    pub(crate) fn draining(&self) -> bool {
        match self.gate {
            Gate::Open => false,
            Gate::Draining(_) | Gate::Stopping => true,
        }
    }

    fn turn(&mut self, gate: Gate) -> Result<(), AlreadyStopping> {
        match self.gate {
            Gate::Stopping => Err(AlreadyStopping),
            Gate::Open | Gate::Draining(_) => {
                self.gate = gate;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Ask { last_resort: bool },
        End(usize),
        Drain(DrainMode),
        Undrain,
        Stop,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => any::<bool>().prop_map(|last_resort| Op::Ask { last_resort }),
            4 => any::<usize>().prop_map(Op::End),
            1 => Just(Op::Drain(DrainMode::All)),
            1 => Just(Op::Drain(DrainMode::Sessions)),
            2 => Just(Op::Undrain),
            1 => Just(Op::Stop),
        ]
    }

    proptest! {
        /// After a drain nobody new comes in but the last resort, what was admitted stays counted until
        /// its own end, and a stop is final.
        #[test]
        fn f01_a_drain_admits_nobody_and_loses_nobody(ops in prop::collection::vec(op(), 0..200)) {
            let mut life = Life::new(Gate::Open);
            let (mut held, mut asked, mut admitted, mut closed, mut stopped) = (Vec::new(), 0u64, 0u64, None, false);
            for op in ops {
                match op {
                    Op::Ask { last_resort } => {
                        asked += 1;
                        let free = closed.is_none() || closed == Some(DrainMode::Sessions);
                        match life.admit(Tick::ZERO, last_resort) {
                            Ok(id) => {
                                prop_assert!(last_resort || (free && !stopped));
                                admitted += 1;
                                held.push(id);
                            }
                            Err(refused) => {
                                prop_assert!(!last_resort && (stopped || !free));
                                prop_assert_eq!(refused == Refused::Stopping, stopped);
                            }
                        }
                    }
                    Op::End(at) if !held.is_empty() => life.end(held.remove(at % held.len())),
                    Op::End(_) => {}
                    Op::Drain(mode) => match life.drain(mode) {
                        Ok(()) => closed = Some(mode),
                        Err(AlreadyStopping) => prop_assert!(stopped),
                    },
                    Op::Undrain => match life.undrain() {
                        Ok(()) => closed = None,
                        Err(AlreadyStopping) => prop_assert!(stopped),
                    },
                    Op::Stop => {
                        life.stop();
                        stopped = true;
                    }
                }
                let status = life.drain_status(Tick::ZERO);
                let draining = stopped || closed.is_some();
                prop_assert_eq!(status.inflight, u64::try_from(held.len()).unwrap());
                prop_assert_eq!(status.draining, draining);
                prop_assert_eq!(status.state == DrainState::Drained, draining && held.is_empty());
                prop_assert_eq!(status.state == DrainState::Serving, !draining);
                prop_assert_eq!(life.admitted(), admitted);
                let refused: u64 = Refused::ALL.into_iter().map(|why| life.refused(why)).sum();
                prop_assert_eq!(admitted + refused, asked);
            }
        }
    }

    #[test]
    fn readiness_ignores_the_drain_but_the_status_does_not() {
        let mut life = Life::new(Gate::Draining(DrainMode::All));
        assert_eq!(life.ready(None).0.reason, Ready::INITIALIZING);
        life.standing = Standing::Initializing("loading 3 of 7".to_owned());
        let (body, detail) = life.ready(None);
        assert_eq!((body.reason.as_str(), detail), (Ready::INITIALIZING, Some("loading 3 of 7")));
        life.standing = Standing::Ready;
        let (body, _) = life.ready(None);
        assert!(body.ready && body.draining && body.status() == 503);
        life.undrain().unwrap();
        assert_eq!(life.ready(None).0.status(), 200);
        life.standing = Standing::Unready("model missing".to_owned());
        assert_eq!(life.ready(None).0.status(), 503);
    }
}
