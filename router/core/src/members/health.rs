//! The health of one member: what it last said, and whether it still speaks.
//!
//! ```text
//! Unknown ──answer──▶ Answering ──two silences, or one refusal──▶ Silent
//!                         ▲                                          │
//!                         └── two successes, or one explicit "no" ───┘
//! ```

use std::collections::BTreeMap;

use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;
use supervisor_protocol::{Tick, VersionName};

use super::answer::{DrainWord, Silence, Word};
use super::standing::Drain;

/// What is known of a member's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has never answered.
    Unknown { missed: Missed },
    /// What it said last holds.
    Answering { said: Said, missed: Missed },
    /// It does not speak any more. What it said last is what a panic goes by.
    Silent { since: Tick, said: Option<Said>, returning: Returning },
}

/// Whether the last check met silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missed {
    #[default]
    No,
    Once,
}

/// Whether the last check of a silent member was a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Returning {
    #[default]
    No,
    Once,
}

/// What a member said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Host(HostSaid),
    /// An older host, version by version.
    Checks(BTreeMap<VersionName, Check>),
    /// A plain member has nothing to say but that it is there.
    Plain,
}

/// The word of a host with versiond, and since when its state is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSaid {
    pub word: Word,
    pub phase: Phase,
}

/// What a host's state means to a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Serving,
    /// Unready, and admitting what arrives.
    Cordoned(Drain),
    /// On its way out, and still admitting.
    Announcing(Drain),
    /// Admits nothing new.
    Draining(Drain),
    Ending,
}

/// One version of an older host. Its 503 is no explicit word, so that it needs two as silence does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Ready,
    /// Not ready once, after it was.
    Doubted,
    Lost {
        since: Tick,
        returning: Returning,
    },
    /// Not ready ever since it is known.
    Never,
}

impl Health {
    /// Before anything is known.
    pub const UNKNOWN: Health = Health::Unknown { missed: Missed::No };

    /// The explicit word of a host. A word older than the last one is a sign of life alone.
    pub(super) fn word(&mut self, word: Word, now: Tick) {
        let before = match self.said() {
            Some(Said::Host(said)) if said.word.boot == word.boot && said.word.id == word.id => Some(said),
            Some(Said::Host(_) | Said::Checks(_) | Said::Plain) | None => None,
        };
        let said = match before {
            Some(said) if said.word.seq > word.seq => said.clone(),
            Some(_) | None => HostSaid { phase: phase(before.map(|said| said.phase), &word, now), word },
        };
        let is_back = said.is_of_use();
        self.heard(Said::Host(said), is_back);
    }

    /// The versions of an older host.
    pub(super) fn checks(&mut self, versions: BTreeMap<VersionName, bool>, now: Tick) {
        let mut known = match self.said() {
            Some(Said::Checks(known)) => known.clone(),
            Some(Said::Host(_) | Said::Plain) | None => BTreeMap::new(),
        };
        for (version, is_ready) in versions {
            let check = check(known.get(&version).copied(), is_ready, now);
            known.insert(version, check);
        }
        self.heard(Said::Checks(known), true);
    }

    /// A plain member is there.
    pub(super) fn connected(&mut self) {
        self.heard(Said::Plain, true);
    }

    /// It lives, and has said nothing.
    pub(super) fn overloaded(&mut self) {
        match self {
            Health::Unknown { missed } | Health::Answering { missed, .. } => *missed = Missed::No,
            Health::Silent { .. } => {}
        }
    }

    /// It did not answer.
    pub(super) fn silence(&mut self, silence: Silence, now: Tick) {
        let is_sure = |missed: Missed| match (missed, silence) {
            (Missed::Once, Silence::Refused | Silence::TimedOut | Silence::Broken) | (Missed::No, Silence::Refused) => {
                true
            }
            (Missed::No, Silence::TimedOut | Silence::Broken) => false,
        };
        match self {
            Health::Unknown { missed } if is_sure(*missed) => self.fall_silent(None, now),
            Health::Answering { said, missed } if is_sure(*missed) => {
                let said = said.clone();
                self.fall_silent(Some(said), now);
            }
            Health::Unknown { missed } | Health::Answering { missed, .. } => *missed = Missed::Once,
            Health::Silent { returning, .. } => *returning = Returning::No,
        }
    }

    /// What was said last, also by one that is silent now.
    #[must_use]
    pub const fn said(&self) -> Option<&Said> {
        match self {
            Health::Unknown { .. } => None,
            Health::Answering { said, .. } => Some(said),
            Health::Silent { said, .. } => said.as_ref(),
        }
    }

    /// The wire name, also the metric label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Health::Unknown { .. } => "unknown",
            Health::Answering { .. } => "answering",
            Health::Silent { .. } => "silent",
        }
    }

    fn heard(&mut self, heard: Said, is_of_use: bool) {
        match self {
            Health::Unknown { .. } => *self = Health::Answering { said: heard, missed: Missed::No },
            Health::Answering { said, missed } => {
                *said = heard;
                *missed = Missed::No;
            }
            Health::Silent { said, returning: returning @ Returning::No, .. } if is_of_use => {
                *said = Some(heard);
                *returning = Returning::Once;
            }
            // The second success, or a "no" that is the host's own.
            Health::Silent { .. } => *self = Health::Answering { said: heard, missed: Missed::No },
        }
    }

    fn fall_silent(&mut self, said: Option<Said>, now: Tick) {
        *self = Health::Silent { since: now, said, returning: Returning::No };
    }
}

impl HostSaid {
    /// Whether requests may come here because of this word.
    fn is_of_use(&self) -> bool {
        match self.phase {
            Phase::Serving => self.word.ready || self.word.slots.values().any(|is_ready| *is_ready),
            Phase::Starting | Phase::Cordoned(_) | Phase::Announcing(_) | Phase::Draining(_) | Phase::Ending => false,
        }
    }
}

impl Phase {
    /// The drain of a host that is in one.
    #[must_use]
    pub const fn drain(self) -> Option<Drain> {
        match self {
            Phase::Cordoned(drain) | Phase::Announcing(drain) | Phase::Draining(drain) => Some(drain),
            Phase::Starting | Phase::Serving | Phase::Ending => None,
        }
    }
}

fn phase(before: Option<Phase>, word: &Word, now: Tick) -> Phase {
    let lasted = |drain: DrainWord| Tick(now.0.saturating_sub(supervisor_protocol::time::millis(drain.lasted)));
    // The first account of a drain stays: what is reckoned back from each answer would jitter.
    let since = |before: Option<Drain>| before.map_or_else(|| word.drain.map_or(now, lasted), |drain| drain.since);
    let mode = word.drain.map_or(DrainMode::All, |drain| drain.mode);
    let drain = |before| Drain { since: since(before), mode };
    match word.state {
        HostState::Starting => Phase::Starting,
        HostState::Serving => Phase::Serving,
        HostState::Cordoned => match before {
            Some(Phase::Cordoned(before)) => Phase::Cordoned(drain(Some(before))),
            Some(_) | None => Phase::Cordoned(drain(None)),
        },
        HostState::Announcing => match before {
            Some(Phase::Announcing(before)) => Phase::Announcing(drain(Some(before))),
            Some(_) | None => Phase::Announcing(drain(None)),
        },
        HostState::Draining => match before {
            Some(Phase::Draining(before)) => Phase::Draining(drain(Some(before))),
            Some(_) | None => Phase::Draining(drain(None)),
        },
        HostState::Stopping | HostState::Stopped | HostState::Forcing => Phase::Ending,
    }
}

const fn check(before: Option<Check>, is_ready: bool, now: Tick) -> Check {
    match (before, is_ready) {
        (None | Some(Check::Never | Check::Ready | Check::Doubted), true)
        | (Some(Check::Lost { returning: Returning::Once, .. }), true) => Check::Ready,
        (Some(Check::Lost { since, returning: Returning::No }), true) => {
            Check::Lost { since, returning: Returning::Once }
        }
        (None | Some(Check::Never), false) => Check::Never,
        (Some(Check::Ready), false) => Check::Doubted,
        (Some(Check::Doubted), false) => Check::Lost { since: now, returning: Returning::No },
        (Some(Check::Lost { since, .. }), false) => Check::Lost { since, returning: Returning::No },
    }
}
