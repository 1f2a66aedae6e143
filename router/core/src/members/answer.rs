//! What one check of one member brought.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::{HostDrain, HostState, ReadyAll};
use supervisor_protocol::{BootNonce, HostId, SlotId, VersionName};

/// What a host with versiond says of itself. It counts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub id: HostId,
    pub boot: BootNonce,
    pub seq: u64,
    pub state: HostState,
    pub ready: bool,
    /// Whether each slot has a child that is live-ready.
    pub slots: BTreeMap<SlotId, bool>,
    /// Known while the host is cordoned or on its way out.
    pub drain: Option<DrainWord>,
}

/// What a host says of its drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainWord {
    pub mode: DrainMode,
    /// For how long already.
    pub lasted: Duration,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The JSON of `/readyz?all=1`.
    Word(Word),
    /// An older host: 200 or 503 at `/readyz?version=`, for each version that was asked about.
    Checks(BTreeMap<VersionName, bool>),
    /// A plain member accepted a connection, or answered its configured path as expected.
    Connected,
    /// A 503 that is not the host's own: it lives, and says nothing about readiness.
    Overloaded,
    Silent(Silence),
}

/// How a member was silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// Nobody listens there. One is enough.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The connection was lost, or what came was no answer.
    Broken,
}

impl Word {
    /// The word of a host. While its state is not `serving`, `/drain/status` says in which mode it drains; a
    /// shell reads that before it hands the word on, so that no key moves in a mode in which it should stay.
    #[must_use]
    pub fn new(all: ReadyAll, drain: Option<&HostDrain>) -> Self {
        let drain = drain.filter(|drain| drain.id == all.id && drain.boot == all.boot).and_then(|drain| {
            let lasted = Duration::from_millis(drain.since_ms.unwrap_or_default());
            Some(DrainWord { mode: drain.mode?, lasted })
        });
        let ReadyAll { id, boot, seq, state, ready, slots, schema: _ } = all;
        let slots = slots.into_iter().map(|slot| (SlotId { service: slot.service, name: slot.name }, slot.ready));
        Self { id, boot, seq, state, ready, slots: slots.collect(), drain }
    }
}
