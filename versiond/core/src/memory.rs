//! What a slot must not forget over a restart: what served, what was written, and what operators ordered.
//!
//! The shell writes it before it carries out the steps that follow from a change of it. Must not live
//! here: generations (a restart ends them all), or files.

use serde::{Deserialize, Serialize};
use supervisor_protocol::Sha256;
use supervisor_protocol::contract::{DataFormats, StateKind};

use crate::catalog::Artifact;
use crate::generation::Facts;

/// How many starts and stops a forecast looks back on.
const REMEMBERED: usize = 5;
/// How many builds are remembered to have touched the slot's data.
const TOUCHES: usize = 16;

/// The memory of one slot. That of a removed name is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What last served. It comes back when nothing else can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Artifact>,
    /// What last served its trial out: the way back while another one is on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baked: Option<Served>,
    /// What had before that: an operator's way back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Served>,
    /// Builds that may have written into the slot's data, in the order of their latest starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Touch>,
    /// How long the latest starts took, from the order to readiness, and the latest stops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starts_ms: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stops_ms: Vec<u64>,
    /// A hash that was taken back here, until another is wanted or an operator says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// An operator keeps the slot as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// An operator's word instead of the catalog's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Artifact>,
    /// An operator's yes, to one hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approval>,
}

/// A build that has served, and what it can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub artifact: Artifact,
    pub state: StateKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFormats>,
}

/// A build that may have written, and in which format; `None` = unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    pub sha256: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u32>,
}

/// A hash that was taken back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    pub sha256: Sha256,
    #[serde(default)]
    pub cause: RollbackCause,
    pub detail: String,
}

/// What has taken a hash back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackCause {
    /// It ended while it was on trial.
    #[default]
    Crash,
    /// It was not ready while its predecessor was.
    Unready,
    /// It answered with more errors than its predecessor.
    Errors,
    /// Requests waited for it, and it could not start.
    Start,
    /// An operator went back.
    Operator,
}

impl RollbackCause {
    pub const ALL: [RollbackCause; 5] = [
        RollbackCause::Crash,
        RollbackCause::Unready,
        RollbackCause::Errors,
        RollbackCause::Start,
        RollbackCause::Operator,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RollbackCause::Crash => "crash",
            RollbackCause::Unready => "unready",
            RollbackCause::Errors => "errors",
            RollbackCause::Start => "start",
            RollbackCause::Operator => "operator",
        }
    }
}

/// An operator's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub sha256: Sha256,
    #[serde(default)]
    pub accept_downtime: bool,
    #[serde(default)]
    pub force_order: bool,
}

impl Memory {
    /// The memory of a slot of which only this is known.
    #[must_use]
    pub fn of(last_good: Artifact) -> Memory {
        Memory { last_good: Some(last_good), ..Memory::default() }
    }

    /// Forgets every artifact that cannot be had any more.
    pub fn keep(&mut self, keep: impl Fn(&Sha256) -> bool) {
        self.last_good = self.last_good.take().filter(|artifact| keep(&artifact.sha256));
        self.pin = self.pin.take().filter(|artifact| keep(&artifact.sha256));
        self.baked = self.baked.take().filter(|served| keep(&served.artifact.sha256));
        self.before = self.before.take().filter(|served| keep(&served.artifact.sha256));
    }

    /// Whether these bytes are remembered to have served.
    #[must_use]
    pub fn has_served(&self, sha256: &Sha256) -> bool {
        self.last_good.as_ref().is_some_and(|good| good.sha256 == *sha256) || self.served(sha256).is_some()
    }

    /// A build is about to run, and may write from its first instruction on.
    pub(crate) fn touch(&mut self, sha256: Sha256, facts: &Facts) {
        match facts.state {
            StateKind::None => {}
            StateKind::Local | StateKind::Shared => {
                self.touched.retain(|touch| touch.sha256 != sha256);
                self.touched.push(Touch { sha256, writes: facts.data.map(|data| data.writes) });
                let over = self.touched.len().saturating_sub(TOUCHES);
                self.touched.drain(..over);
            }
        }
    }

    /// What this build may not be able to read: everything that was written since it last began, in a format that
    /// is none of its own or unknown.
    pub(crate) fn unreadable(&self, served: &Served) -> Option<String> {
        match served.state {
            StateKind::None => return None,
            StateKind::Local | StateKind::Shared => {}
        }
        let short = served.artifact.sha256.short();
        let Some(began) = self.touched.iter().rposition(|touch| touch.sha256 == served.artifact.sha256) else {
            return Some(format!("what was written since {short} served is not known"));
        };
        self.touched[began + 1..].iter().find_map(|touch| match (touch.writes, served.data) {
            (Some(writes), Some(data)) if (data.reads[0]..=data.reads[1]).contains(&writes) => None,
            (Some(writes), Some(data)) => Some(format!(
                "{} writes format {writes}, and {short} reads {} to {}",
                touch.sha256.short(),
                data.reads[0],
                data.reads[1]
            )),
            (None, _) => Some(format!("the format that {} writes is not known", touch.sha256.short())),
            (_, None) => Some(format!("the formats that {short} reads are not known")),
        })
    }

    /// What is known of a build that has served.
    pub(crate) fn served(&self, sha256: &Sha256) -> Option<&Served> {
        self.baked.iter().chain(&self.before).find(|served| served.artifact.sha256 == *sha256)
    }

    pub(crate) fn started_within(&mut self, ms: u64) {
        remember(&mut self.starts_ms, ms);
    }

    pub(crate) fn stopped_within(&mut self, ms: u64) {
        remember(&mut self.stops_ms, ms);
    }

    /// Whether an operator has said yes to these bytes.
    pub(crate) fn approves(&self, sha256: &Sha256) -> bool {
        self.approved.as_ref().is_some_and(|approved| approved.sha256 == *sha256)
    }

    /// And to being away for them.
    pub(crate) fn accepts_downtime(&self, sha256: &Sha256) -> bool {
        self.approved.as_ref().is_some_and(|approved| approved.sha256 == *sha256 && approved.accept_downtime)
    }

    /// And to not waiting for the hosts that come earlier.
    pub(crate) fn forces_order(&self, sha256: &Sha256) -> bool {
        self.approved.as_ref().is_some_and(|approved| approved.sha256 == *sha256 && approved.force_order)
    }

    /// Whether these bytes were taken back.
    pub(crate) fn took_back(&self, sha256: &Sha256) -> bool {
        self.rolled_back.as_ref().is_some_and(|rolled_back| rolled_back.sha256 == *sha256)
    }
}

fn remember(durations: &mut Vec<u64>, ms: u64) {
    durations.push(ms);
    let over = durations.len().saturating_sub(REMEMBERED);
    durations.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor_protocol::contract::Role;

    fn build(byte: u8, state: StateKind, data: Option<(u32, u32, u32)>) -> (Served, Facts) {
        let data = data.map(|(from, to, writes)| DataFormats { reads: [from, to], writes });
        let artifact =
            Artifact { sha256: Sha256([byte; 32]), urls: Vec::new(), size: None, entry: None, irreversible: false };
        let facts =
            Facts { binary_version: "1".to_owned(), role: Role::Server, state, undrain: false, data, exclusive: false };
        (Served { artifact, state, data }, facts)
    }

    /// What an old build may not read after these have started.
    fn unreadable(old: &(Served, Facts), since: &[&(Served, Facts)]) -> bool {
        let mut memory = Memory::default();
        for (served, facts) in [old].into_iter().chain(since.iter().copied()) {
            memory.touch(served.artifact.sha256, facts);
        }
        memory.unreadable(&old.0).is_some()
    }

    #[test]
    fn f68_a_way_back_is_known_only_where_every_format_written_since_can_be_read() {
        use StateKind::{Local, None as Stateless, Shared};
        let old = build(1, Local, Some((3, 5, 4)));
        for (state, data, is_unreadable) in [
            (Local, Some((3, 5, 5)), false),
            (Local, Some((5, 7, 6)), true),
            (Local, Some((1, 7, 2)), true),
            (Local, None, true),
            (Shared, None, true),
            (Stateless, None, false),
        ] {
            assert_eq!(unreadable(&old, &[&build(2, state, data)]), is_unreadable, "{state:?} {data:?}");
        }
        let (fits, breaks) = (build(2, Local, Some((3, 5, 5))), build(3, Local, Some((5, 7, 6))));
        assert!(unreadable(&old, &[&breaks, &fits]), "also one in between counts");
        assert!(!unreadable(&old, &[&breaks, &old, &fits]), "it has served what the one before it wrote");
        assert!(unreadable(&build(1, Local, None), &[&fits]));
        assert!(!unreadable(&build(1, Stateless, None), &[&breaks]));
        assert!(Memory::default().unreadable(&old.0).is_some(), "nothing is known of a ledger before this");
    }
}
