//! The typed words of a view: roles, reasons to be left out, and alarms.

use std::fmt;

use crate::members::{Address, Cause, Conflict, Drain, Kept, MemberId};

/// Why a member may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ready,
    /// Silent, and not believed to be gone.
    Kept(Cause),
    /// It drains session by session, and is asked first for the keys that were its own.
    Sessions(Drain),
    /// Cordoned, where nobody is ready.
    Cordoned(Drain),
    /// On its way out and still admitting, where nobody is ready.
    Announcing(Drain),
    /// Drained by this router, where nobody is ready.
    DrainedHere,
}

/// A member that is not chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    pub address: Address,
    /// What it calls itself, where that is known.
    pub id: Option<MemberId>,
    pub reason: OutReason,
}

/// Why a member is not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutReason {
    Unknown,
    Unready,
    NoSuchVersion,
    Starting,
    Cordoned,
    Announcing,
    Draining,
    Ending,
    Silent,
    DrainedHere,
    SecondLocal {
        first: MemberId,
    },
    Identity(Conflict),
    /// It drains session by session, and does not hold this one.
    NotHeld,
}

/// What somebody should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Silence is not believed.
    Panic(Kept<MemberId>),
    /// Nobody is left but who is cordoned or drained: this one is used first.
    AllCordoned { used: MemberId },
    /// Nobody is left but who is on its way out.
    AllLeaving { used: MemberId },
    /// A second host is ready for what only one may hold.
    SecondLocal { first: MemberId, refused: MemberId },
    /// A host stays out although it answers.
    Identity { address: Address, called: MemberId, conflict: Conflict },
}

impl Role {
    pub(crate) const fn sessions(self) -> Option<Drain> {
        match self {
            Role::Sessions(drain) => Some(drain),
            Role::Ready | Role::Kept(_) | Role::Cordoned(_) | Role::Announcing(_) | Role::DrainedHere => None,
        }
    }

    /// The wire name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Role::Ready => "ready",
            Role::Kept(_) => "kept",
            Role::Sessions(_) => "sessions",
            Role::Cordoned(_) => "cordoned",
            Role::Announcing(_) => "announcing",
            Role::DrainedHere => "drained_here",
        }
    }
}

impl OutReason {
    /// The wire name, also the metric label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            OutReason::Unknown => "unknown",
            OutReason::Unready => "unready",
            OutReason::NoSuchVersion => "no_such_version",
            OutReason::Starting => "starting",
            OutReason::Cordoned => "cordoned",
            OutReason::Announcing => "announcing",
            OutReason::Draining => "draining",
            OutReason::Ending => "ending",
            OutReason::Silent => "silent",
            OutReason::DrainedHere => "drained_here",
            OutReason::SecondLocal { .. } => "second_local",
            OutReason::Identity(Conflict::Mismatch { .. }) => "identity_mismatch",
            OutReason::Identity(Conflict::Taken { .. }) => "identity_taken",
            OutReason::Identity(Conflict::SameHost { .. }) => "same_host",
            OutReason::NotHeld => "not_held",
        }
    }
}

impl fmt::Display for OutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutReason::Unknown => f.write_str("it has not answered yet"),
            OutReason::Unready => f.write_str("it says that it is not ready"),
            OutReason::NoSuchVersion => f.write_str("it does not have this version"),
            OutReason::Starting => f.write_str("it is starting"),
            OutReason::Cordoned => f.write_str("it is cordoned"),
            OutReason::Announcing => f.write_str("it announces that it will stop"),
            OutReason::Draining => f.write_str("it drains before it stops"),
            OutReason::Ending => f.write_str("it is stopping"),
            OutReason::Silent => f.write_str("it does not answer"),
            OutReason::DrainedHere => f.write_str("this router drains it, since it cannot say so itself"),
            OutReason::SecondLocal { first } => write!(f, "the state is local, and {first} was ready first"),
            OutReason::Identity(Conflict::Mismatch { expected }) => {
                write!(f, "the configuration expects {expected} here")
            }
            OutReason::Identity(Conflict::Taken { by }) => {
                write!(f, "another host of this identity lives at {by}: was its disk cloned?")
            }
            OutReason::Identity(Conflict::SameHost { at }) => write!(f, "it is the host that is reached at {at}"),
            OutReason::NotHeld => f.write_str("it drains, and has said that it does not hold this session"),
        }
    }
}

impl Alarm {
    /// The metric label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Alarm::Panic(_) => "panic",
            Alarm::AllCordoned { .. } => "all_cordoned",
            Alarm::AllLeaving { .. } => "all_leaving",
            Alarm::SecondLocal { .. } => "second_local",
            Alarm::Identity { .. } => "identity",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Panic(kept) => {
                let names: Vec<&str> = kept.members.iter().map(MemberId::as_str).collect();
                let why = match kept.cause {
                    Cause::LastReady => "nobody else is ready",
                    Cause::MoreThanHalf => "more than half of the pool fell silent at once",
                };
                write!(f, "{} do not answer and are tried all the same: {why}", names.join(", "))
            }
            Alarm::AllCordoned { used } => {
                write!(f, "every host that is left is cordoned or drained; {used} is used")
            }
            Alarm::AllLeaving { used } => write!(f, "every host that is left is on its way out; {used} is used"),
            Alarm::SecondLocal { first, refused } => {
                write!(f, "{refused} is ready for what only {first} may hold, and is refused")
            }
            Alarm::Identity { address, called, conflict } => {
                write!(f, "{address} calls itself {called} and stays out: {}", OutReason::Identity(conflict.clone()))
            }
        }
    }
}
