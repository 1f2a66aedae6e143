//! What a slot is told, and what it tells the shell to do.
//!
//! Types alone. Must not live here: what follows from them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use supervisor_protocol::{ByClass, Generation, HostId, Reason, Sha256, StreamClass, Tick};

use crate::catalog::Artifact;
use crate::errors::Answers;
use crate::evacuate::{Evacuate, Word};
use crate::generation::{DrainEnd, Exit, Facts, Probe};
use crate::window::Opening;

/// What should serve in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// This artifact.
    Serve(Artifact),
    /// Whatever serves now; the entry cannot be followed here.
    Keep(Reason),
    /// Nothing: the name is no longer approved.
    Nothing,
    /// Nothing: the host is on its way out, and all work must be over at this tick.
    Stop { deadline: Tick },
    /// Nothing, at once: the host's budget is spent or an operator forces it.
    Force,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    Want(Want),
    Fetched(Generation),
    FetchFailed(Generation, Failed),
    Described(Generation, Facts),
    PreflightFailed(Generation, String),
    /// The host does not keep it apart as its service asks, so that it is not even asked what it is.
    NotIsolated(Generation, String),
    Launched(Generation),
    LaunchFailed(Generation, NotLaunched),
    /// A round that asked a candidate, or what serves, whether it serves.
    Probed(Generation, Probe),
    /// A round that asked one which has served whether it could again, whether it drains or not.
    Compared(Generation, Probe),
    /// What the data plane and the child count for a generation.
    Leases(Generation, ByClass<u64>),
    ChildLoad(Generation, u64),
    /// In how many milliseconds the work of what serves is expected to be done, were it withdrawn now.
    Forecast(Generation, u64),
    /// What came of a question to a peer that was asked then; `None` = no answer.
    Peer {
        host: HostId,
        asked: Tick,
        word: Option<Word>,
    },
    /// It is shown since now that the slot is evacuated.
    Claimed(Generation),
    /// What a generation has answered since it began, by the data plane.
    Answers(Generation, Answers),
    Exited(Generation, Exit),
    /// These hashes may not run, nor come back.
    Denied(BTreeSet<Sha256>),
    /// The state of the rollout window.
    Opening(Opening),
    /// A deadline may have passed.
    Tick,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failed {
    Fetch(String),
    Hash {
        found: String,
    },
    Artifact(String),
    /// The state directory cannot be written, so nothing new may begin.
    Ledger(String),
}

/// Why a process was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotLaunched {
    /// No port of the range is free.
    Ports {
        range: String,
    },
    /// The ledger cannot be written, and nothing may run that it does not know.
    Ledger(String),
    /// The host does not keep it apart as its service asks.
    Isolation(String),
    Failed(String),
}

/// What the shell must do. The state has already been changed to expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Fetch and verify; answer `Fetched` or `FetchFailed`.
    Fetch(Generation, Artifact),
    /// Ask the build what it is; answer `Described` or `PreflightFailed`.
    Describe(Generation),
    /// Make the process; answer `Launched` or `LaunchFailed`, later `Probed` and `Exited`.
    Start(Generation),
    /// Record its readiness, make it the slot's target, then retire the old target. In this order.
    Publish { new: Generation, old: Option<Generation> },
    /// The same for one that has served before: first take its drain back, if it was told to.
    Restore { back: Generation, old: Option<Generation> },
    /// Take the target away for a moment: requests wait until its successor serves. It is given up when the old
    /// one has not emptied in time.
    Hold { old: Generation, new: Generation, until: Tick, empty_by: Option<Tick> },
    /// Go on with the evacuation of the slot in favour of this candidate, or step back from it.
    Evacuate(Generation, Evacuate),
    /// Take the target away: nothing serves the slot from now on.
    Withdraw(Generation, Absent),
    /// Nothing serves, and this is what a request is told from now on.
    Absent(Absent),
    /// End the leases of this class: its deadline has passed.
    Cut(Generation, StreamClass),
    /// The leases are gone: tell the child to drain, and answer `ChildLoad` until it is 0.
    DrainChild(Generation),
    /// Its drain is over: write the receipt, and keep the process.
    Park(Generation, DrainEnd),
    /// Send the stop signal to the process and its group.
    Terminate(Generation),
    /// Kill the whole group.
    Kill(Generation),
    /// No process is left: free the port, write the receipt, strike it off the ledger. Cancels
    /// whatever of it is still under way.
    Forget(Generation, Option<DrainEnd>),
}

impl Step {
    /// Its name in logs, metrics and tests.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Step::Fetch(..) => "fetch",
            Step::Describe(_) => "describe",
            Step::Start(_) => "start",
            Step::Publish { .. } => "publish",
            Step::Restore { .. } => "restore",
            Step::Hold { .. } => "hold",
            Step::Evacuate(..) => "evacuate",
            Step::Withdraw(..) => "withdraw",
            Step::Absent(_) => "absent",
            Step::Cut(..) => "cut",
            Step::DrainChild(_) => "drain_child",
            Step::Park(..) => "park",
            Step::Terminate(_) => "terminate",
            Step::Kill(_) => "kill",
            Step::Forget(..) => "forget",
        }
    }
}

/// What a request to a slot without a target is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absent {
    /// Wait: the slot is approved and expected at this tick, when that is known.
    Hold { until: Option<Tick> },
    /// The name is not approved.
    NotFound,
    /// The host is on its way out.
    Stopping,
    /// Approved elsewhere, not servable here.
    NotServing,
}
