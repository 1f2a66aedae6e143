//! The event stream of an admin API: what has happened, in order. What a router tells is in `router::events`.

use serde::{Deserialize, Serialize};

use crate::admin::{Phase, Receipt};
use crate::host::HostState;
use crate::names::{Generation, SlotId};
use crate::reason::Reason;

/// One event of `GET /v1/events`. The stream's `id` is the boot nonce, a dash and the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Event"))]
pub struct Event<W = Happening> {
    /// Counted from 1 since the daemon's start.
    pub number: u64,
    /// When, in milliseconds since the daemon's start.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: W,
}

/// What a stream of events tells of.
pub trait Happens: Clone {
    /// The wire name, also the `event` field of the stream.
    fn as_str(&self) -> &'static str;

    /// So many events are gone from the ring that a reader has asked for.
    fn missed(events: u64) -> Self;
}

/// What happened. The code is also the `event` field of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A generation entered another phase.
    Transition(Transition),
    /// The host entered another state.
    Host { state: HostState },
    /// Somebody asked for a change, and got it or not.
    Act(Act),
    /// A drain has ended.
    Drained(Receipt),
    /// So many events are gone from the ring that a reader has asked for.
    Missed { events: u64 },
}

impl Happens for Happening {
    fn as_str(&self) -> &'static str {
        match self {
            Happening::Transition(_) => "transition",
            Happening::Host { .. } => "host",
            Happening::Act(_) => "act",
            Happening::Drained(_) => "drained",
            Happening::Missed { .. } => "missed",
        }
    }

    fn missed(events: u64) -> Self {
        Happening::Missed { events }
    }
}

/// A transition of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Transition {
    #[serde(flatten)]
    pub slot: SlotId,
    pub generation: Generation,
    /// Absent for a generation that has just begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Phase>,
    pub to: Phase,
    /// Of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Something that an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Act {
    /// `uid 1000`, or `token` for a caller of the TCP listener.
    pub by: String,
    /// Method and path.
    pub request: String,
    /// The status of the answer.
    pub status: u16,
    /// The code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}
