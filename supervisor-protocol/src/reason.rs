//! Typed reasons: why something waits or was refused. The same code appears in the API, the log, the
//! metric label and `versionctl why`; the text is for a person.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::VersionName;

/// Why a slot is not (yet) where its intent wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// The artifact is on its way.
    Fetching { sha256: String, received: u64, total: Option<u64> },
    /// The fetch failed and is tried again.
    FetchFailed { sha256: String, detail: String, retry_in_ms: u64 },
    /// The bytes that came are not the bytes that were named. What serves goes on serving.
    HashMismatch { expected: String, found: String, retry_in_ms: u64 },
    /// The archive is unusable: no entry, two entries, too large, a link, a path that leaves it.
    ArtifactRefused { sha256: String, detail: String, retry_in_ms: u64 },
    /// The child is being asked to describe itself.
    Preflight { generation: u64 },
    /// The child could not describe itself, or describes something else.
    PreflightFailed { detail: String, retry_in_ms: u64 },
    /// The candidate is too old to bring the schema of the shared database up to date, and the builds in these slots,
    /// which may, have not.
    SchemaWait { generation: u64, slots: Vec<VersionName> },
    /// The candidate has been started and does not serve yet.
    NotReady { generation: u64, detail: String, left_ms: u64 },
    /// It serves, and has said for some time that it cannot, or nothing at all.
    Unready { generation: u64, detail: String },
    /// The candidate did not become ready within its window. What served goes on serving.
    NeverReady { sha256: String, detail: String, retry_in_ms: u64 },
    /// The child exited before it was ready.
    StartFailed { sha256: String, detail: String, retry_in_ms: u64 },
    /// The serving child exited; the next life starts after a pause.
    CrashBackoff { generation: u64, detail: String, retry_in_ms: u64 },
    /// At most one generation of a slot drains at a time: the next change waits for it.
    PredecessorPresent { generation: u64 },
    /// The old generation finishes what it admitted.
    Draining { generation: u64, inflight: u64, left_ms: u64 },
    /// Old and new may not run side by side, and an interruption has not been agreed to.
    NeedsWindow { detail: String },
    /// An earlier generation still holds the slot's data directory.
    DataDirectoryBusy { generation: u64 },
    /// The catalog names something that cannot be served here.
    Unservable { detail: String },
    /// No version in the catalog and none in the configuration.
    NotApproved,
    /// The catalog has not been read yet and none is remembered.
    NoCatalog { detail: String },
    /// The catalog source cannot be read; the last good catalog stays in force.
    CatalogUnreachable { detail: String },
    /// A removal must be seen more often, or for longer, before it is believed.
    RemovalUnconfirmed { seen: u32, needed: u32 },
    /// Gone from the catalog, and kept: the last version of the host, or absence is ignored.
    RemovalHeld { detail: String },
    /// The host is on its way out: nothing new is started.
    HostStopping,
    /// Every port of `child_ports` is taken.
    PortsExhausted { range: String },
    /// The state directory cannot be written. What serves goes on serving; changes wait.
    LedgerUnwritable { detail: String },
    /// The release is staged and waits for an operator's yes: `versionctl approve`.
    AwaitingApproval { sha256: String },
    /// The rollout window is closed.
    WindowClosed { opens_in_ms: u64 },
    /// A pause of this host's own, so that not every host changes at the same moment.
    Jitter { left_ms: u64 },
    /// An operator holds the slot as it is: `versionctl hold`.
    HeldByOperator,
    /// The slot is pinned by an operator: the catalog's word waits.
    Pinned { sha256: String },
    /// What serves is on trial: what served before is kept for as long.
    Baking { generation: u64, left_ms: u64 },
    /// A release was taken back on this host and is not tried again by itself.
    RolledBack { sha256: String, detail: String },
    /// What serves is worse than what served, and going back is not safe by itself.
    RollbackUnsafe { detail: String },
    /// The old generation admits until it is expected to empty within the hold bound.
    Quiescing { generation: u64, forecast_ms: u64, bound_ms: u64 },
    /// Requests wait while the old generation stops and the new one starts.
    Holding { generation: u64, left_ms: u64 },
    /// A host that comes earlier in the order has not changed yet, or has not been heard.
    PeerFirst { peer: String },
    /// A host that comes earlier in the order does not answer; after that time it is passed.
    PeerSilent { peer: String, left_ms: u64 },
    /// Another host leaves the slot to its peers, or is about to.
    PeerEvacuating { peer: String, retry_in_ms: u64 },
    /// No other host could serve meanwhile.
    NoPeerReady,
    /// The slot is left to other hosts: routers move on, then the old generation stops and this one starts.
    Evacuating { generation: u64, left_ms: u64 },
    /// These bytes may not run: the catalog or an operator denies them.
    Denied { sha256: String },
    /// The release is not in force yet; it is staged ahead.
    NotYetActive { height: Option<u64>, activates_at: u64 },
    /// The document's signature is missing or wrong.
    Untrusted { detail: String },
    /// What the configuration asks for cannot be kept apart here, so nothing of it is started.
    IsolationMissing { detail: String },
    /// The configuration was read again and refused whole; the one before stays in force.
    ReloadRefused { detail: String },
    /// These settings have changed in the file and count from the next start of the daemon.
    RestartNeeded { keys: Vec<String> },
}

impl Reason {
    /// The code alone: the metric label and the word to look up in the manual.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Reason::Fetching { .. } => "fetching",
            Reason::FetchFailed { .. } => "fetch_failed",
            Reason::HashMismatch { .. } => "hash_mismatch",
            Reason::ArtifactRefused { .. } => "artifact_refused",
            Reason::Preflight { .. } => "preflight",
            Reason::PreflightFailed { .. } => "preflight_failed",
            Reason::SchemaWait { .. } => "schema_wait",
            Reason::NotReady { .. } => "not_ready",
            Reason::Unready { .. } => "unready",
            Reason::NeverReady { .. } => "never_ready",
            Reason::StartFailed { .. } => "start_failed",
            Reason::CrashBackoff { .. } => "crash_backoff",
            Reason::PredecessorPresent { .. } => "predecessor_present",
            Reason::Draining { .. } => "draining",
            Reason::NeedsWindow { .. } => "needs_window",
            Reason::DataDirectoryBusy { .. } => "data_directory_busy",
            Reason::Unservable { .. } => "unservable",
            Reason::NotApproved => "not_approved",
            Reason::NoCatalog { .. } => "no_catalog",
            Reason::CatalogUnreachable { .. } => "catalog_unreachable",
            Reason::RemovalUnconfirmed { .. } => "removal_unconfirmed",
            Reason::RemovalHeld { .. } => "removal_held",
            Reason::HostStopping => "host_stopping",
            Reason::PortsExhausted { .. } => "ports_exhausted",
            Reason::LedgerUnwritable { .. } => "ledger_unwritable",
            Reason::AwaitingApproval { .. } => "awaiting_approval",
            Reason::WindowClosed { .. } => "window_closed",
            Reason::Jitter { .. } => "jitter",
            Reason::HeldByOperator => "held_by_operator",
            Reason::Pinned { .. } => "pinned",
            Reason::Baking { .. } => "baking",
            Reason::RolledBack { .. } => "rolled_back",
            Reason::RollbackUnsafe { .. } => "rollback_unsafe",
            Reason::Quiescing { .. } => "quiescing",
            Reason::Holding { .. } => "holding",
            Reason::PeerFirst { .. } => "peer_first",
            Reason::PeerSilent { .. } => "peer_silent",
            Reason::PeerEvacuating { .. } => "peer_evacuating",
            Reason::NoPeerReady => "no_peer_ready",
            Reason::Evacuating { .. } => "evacuating",
            Reason::Denied { .. } => "denied",
            Reason::NotYetActive { .. } => "not_yet_active",
            Reason::Untrusted { .. } => "untrusted",
            Reason::IsolationMissing { .. } => "isolation_missing",
            Reason::ReloadRefused { .. } => "reload_refused",
            Reason::RestartNeeded { .. } => "restart_needed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |sha256: &str| sha256.get(..8).unwrap_or(sha256).to_owned();
        match self {
            Reason::Fetching { sha256, received, total: Some(total) } => {
                write!(f, "fetching {}: {received} of {total} bytes", short(sha256))
            }
            Reason::Fetching { sha256, received, total: None } => {
                write!(f, "fetching {}: {received} bytes so far", short(sha256))
            }
            Reason::FetchFailed { sha256, detail, retry_in_ms } => {
                write!(f, "could not fetch {}: {detail}; next try in {}", short(sha256), Span(*retry_in_ms))
            }
            Reason::HashMismatch { expected, found, retry_in_ms } => write!(
                f,
                "refused: the catalog names {}, the bytes that came are {}; next try in {}",
                short(expected),
                short(found),
                Span(*retry_in_ms)
            ),
            Reason::ArtifactRefused { sha256, detail, retry_in_ms } => {
                write!(f, "artifact {} is unusable: {detail}; next try in {}", short(sha256), Span(*retry_in_ms))
            }
            Reason::Preflight { generation } => write!(f, "g{generation} is asked what it is"),
            Reason::PreflightFailed { detail, retry_in_ms } => {
                write!(f, "preflight failed: {detail}; next try in {}", Span(*retry_in_ms))
            }
            Reason::SchemaWait { generation, slots } => {
                let slots = slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "g{generation} waits until the schema of the shared database is up to date: it cannot see to that itself, {slots} may"
                )
            }
            Reason::Unready { generation, detail } => write!(f, "g{generation} serves and is not ready: {detail}"),
            Reason::NotReady { generation, detail, left_ms } => {
                write!(f, "g{generation} is not ready yet: {detail}; {} left", Span(*left_ms))
            }
            Reason::NeverReady { sha256, detail, retry_in_ms } => write!(
                f,
                "{} did not become ready in its window ({detail}); next try in {}",
                short(sha256),
                Span(*retry_in_ms)
            ),
            Reason::StartFailed { sha256, detail, retry_in_ms } => {
                write!(f, "{} did not start: {detail}; next try in {}", short(sha256), Span(*retry_in_ms))
            }
            Reason::CrashBackoff { generation, detail, retry_in_ms } => {
                write!(f, "g{generation} ended ({detail}); next start in {}", Span(*retry_in_ms))
            }
            Reason::PredecessorPresent { generation } => {
                write!(f, "waits for g{generation}, which still drains: one draining predecessor per slot")
            }
            Reason::Draining { generation, inflight, left_ms } => {
                write!(f, "g{generation} drains: {inflight} in flight, deadline in {}", Span(*left_ms))
            }
            Reason::NeedsWindow { detail } => write!(f, "needs a maintenance window: {detail}"),
            Reason::DataDirectoryBusy { generation } => {
                write!(f, "g{generation} still holds the data directory")
            }
            Reason::Unservable { detail } => write!(f, "cannot be served here: {detail}"),
            Reason::NotApproved => f.write_str("no approved version has this name"),
            Reason::NoCatalog { detail } => write!(f, "no catalog has been read yet: {detail}"),
            Reason::CatalogUnreachable { detail } => {
                write!(f, "the catalog cannot be read ({detail}); the last good one stays in force")
            }
            Reason::RemovalUnconfirmed { seen, needed } => {
                write!(f, "gone from the catalog in {seen} of {needed} readings: not yet believed")
            }
            Reason::RemovalHeld { detail } => write!(f, "gone from the catalog, and kept: {detail}"),
            Reason::HostStopping => f.write_str("the host is stopping"),
            Reason::PortsExhausted { range } => write!(f, "no free port in {range}"),
            Reason::LedgerUnwritable { detail } => write!(f, "the state directory cannot be written: {detail}"),
            Reason::AwaitingApproval { sha256 } => {
                write!(f, "{} is staged and waits for `versionctl approve`", short(sha256))
            }
            Reason::WindowClosed { opens_in_ms } => {
                write!(f, "the rollout window opens in {}", Span(*opens_in_ms))
            }
            Reason::Jitter { left_ms } => write!(f, "this host waits its own {} before it changes", Span(*left_ms)),
            Reason::HeldByOperator => f.write_str("an operator holds the slot as it is"),
            Reason::Pinned { sha256 } => write!(f, "an operator has pinned the slot to {}", short(sha256)),
            Reason::Baking { generation, left_ms } => {
                write!(f, "g{generation} is on trial for {} more; what served before is kept", Span(*left_ms))
            }
            Reason::RolledBack { sha256, detail } => {
                write!(f, "{} was taken back here ({detail}); `versionctl retry` tries it again", short(sha256))
            }
            Reason::RollbackUnsafe { detail } => write!(f, "not rolled back by itself: {detail}"),
            Reason::Quiescing { generation, forecast_ms, bound_ms } => write!(
                f,
                "g{generation} admits until it empties within {}; now it would take {}",
                Span(*bound_ms),
                Span(*forecast_ms)
            ),
            Reason::Holding { generation, left_ms } => {
                write!(f, "requests wait while g{generation} stops and its successor starts; {} left", Span(*left_ms))
            }
            Reason::PeerFirst { peer } => {
                write!(
                    f,
                    "one host at a time, and {peer} comes first: `versionctl approve --force-order` goes before it"
                )
            }
            Reason::PeerSilent { peer, left_ms } => write!(
                f,
                "{peer} comes first and does not answer; passed in {}, or by `versionctl approve --force-order`",
                Span(*left_ms)
            ),
            Reason::PeerEvacuating { peer, .. } => write!(f, "one host at a time, and {peer} leaves the slot just now"),
            Reason::NoPeerReady => f.write_str(
                "no other host is ready to serve meanwhile; `versionctl approve --accept-downtime` goes without one",
            ),
            Reason::Evacuating { generation, left_ms } => write!(
                f,
                "the slot is left to other hosts so that g{generation} can start; routers have {} more",
                Span(*left_ms)
            ),
            Reason::Denied { sha256 } => write!(f, "{} may not run: it is denied", short(sha256)),
            Reason::NotYetActive { height: Some(height), activates_at } => {
                write!(f, "staged for height {activates_at}; the chain has been seen at {height}")
            }
            Reason::NotYetActive { height: None, activates_at } => {
                write!(f, "staged for height {activates_at}; the chain's height is not known")
            }
            Reason::Untrusted { detail } => write!(f, "the catalog is not trusted: {detail}"),
            Reason::ReloadRefused { detail } => {
                write!(f, "the configuration was refused, and the one before stays in force: {detail}")
            }
            Reason::RestartNeeded { keys } => {
                write!(f, "changed in the file, and in force from the next start of versiond: {}", keys.join(", "))
            }
            Reason::IsolationMissing { detail } => write!(f, "not started, since it cannot be kept apart: {detail}"),
        }
    }
}

/// Why the data plane refused a request before any child saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No route or no approved version: 404.
    NotFound,
    /// The slot has no serving generation and the hold bound is spent: 503.
    HoldExpired,
    /// As many requests wait as may: 503.
    HoldFull,
    /// The slot cannot serve within the hold bound, so waiting would be in vain: 503.
    NotServing,
    /// The host is on its way out: 503.
    HostStopping,
    /// The child refused before any work and no other generation took it: 503.
    ChildDraining,
    /// No connection to the child: 502.
    ChildUnreachable,
    /// The child ended the exchange before it answered; the request may have been executed: 502.
    ChildBroke,
    /// The head breaks the strict grammar: 400.
    BadHead,
    /// The head is too large: 431.
    HeadTooLarge,
    /// The head came too slowly: 408.
    HeadTimeout,
    /// A method or protocol that is not forwarded: 501.
    NotSupported,
    /// A generation of the slot was cut at its deadline before it answered: 504.
    DeadlineCut,
    /// A router knows no host that has this version: 503.
    UnknownVersion,
    /// A router has no host to send this to: 503.
    NoHost,
    /// The body is longer than it may be: 413.
    BodyTooLarge,
    /// As many requests are in flight as may, on this host: 503. Others are not to be asked instead, since it
    /// would be their turn next.
    Overloaded,
    /// As many connections are open as one address may have: 429.
    TooManyConnections,
    /// The child said nothing for as long as it may; the request may have been executed: 504.
    ChildSilent,
}

impl Refusal {
    /// Every refusal, in the order of the manual.
    pub const ALL: [Refusal; 19] = [
        Refusal::NotFound,
        Refusal::HoldExpired,
        Refusal::HoldFull,
        Refusal::NotServing,
        Refusal::HostStopping,
        Refusal::ChildDraining,
        Refusal::ChildUnreachable,
        Refusal::ChildBroke,
        Refusal::BadHead,
        Refusal::HeadTooLarge,
        Refusal::HeadTimeout,
        Refusal::NotSupported,
        Refusal::DeadlineCut,
        Refusal::UnknownVersion,
        Refusal::NoHost,
        Refusal::BodyTooLarge,
        Refusal::Overloaded,
        Refusal::TooManyConnections,
        Refusal::ChildSilent,
    ];

    /// The wire name, also the metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::NotFound => "not_found",
            Refusal::HoldExpired => "hold_expired",
            Refusal::HoldFull => "hold_full",
            Refusal::NotServing => "not_serving",
            Refusal::HostStopping => "host_stopping",
            Refusal::ChildDraining => "child_draining",
            Refusal::ChildUnreachable => "child_unreachable",
            Refusal::ChildBroke => "child_broke",
            Refusal::BadHead => "bad_head",
            Refusal::HeadTooLarge => "head_too_large",
            Refusal::HeadTimeout => "head_timeout",
            Refusal::NotSupported => "not_supported",
            Refusal::DeadlineCut => "deadline_cut",
            Refusal::UnknownVersion => "unknown_version",
            Refusal::NoHost => "no_host",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::Overloaded => "overloaded",
            Refusal::TooManyConnections => "too_many_connections",
            Refusal::ChildSilent => "child_silent",
        }
    }

    /// The HTTP status of the refusal.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Refusal::NotFound => 404,
            Refusal::HoldExpired
            | Refusal::HoldFull
            | Refusal::NotServing
            | Refusal::HostStopping
            | Refusal::ChildDraining
            | Refusal::UnknownVersion
            | Refusal::NoHost
            | Refusal::Overloaded => 503,
            Refusal::ChildUnreachable | Refusal::ChildBroke => 502,
            Refusal::BadHead => 400,
            Refusal::HeadTooLarge => 431,
            Refusal::HeadTimeout => 408,
            Refusal::NotSupported => 501,
            Refusal::BodyTooLarge => 413,
            Refusal::TooManyConnections => 429,
            Refusal::DeadlineCut | Refusal::ChildSilent => 504,
        }
    }

    /// Whether no child saw the request, so that any host may take it, whatever its method.
    #[must_use]
    pub const fn is_before_admission(self) -> bool {
        match self {
            Refusal::HoldExpired
            | Refusal::HoldFull
            | Refusal::NotServing
            | Refusal::HostStopping
            | Refusal::ChildDraining
            | Refusal::ChildUnreachable
            | Refusal::UnknownVersion
            | Refusal::NoHost => true,
            Refusal::NotFound
            | Refusal::ChildBroke
            | Refusal::BadHead
            | Refusal::HeadTooLarge
            | Refusal::HeadTimeout
            | Refusal::NotSupported
            | Refusal::DeadlineCut
            | Refusal::BodyTooLarge
            | Refusal::Overloaded
            | Refusal::TooManyConnections
            | Refusal::ChildSilent => false,
        }
    }
}

/// Milliseconds for a person.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1_000 => write!(f, "{ms} ms"),
            ms if ms < 120_000 => write!(f, "{} s", ms / 1_000),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_wire_name_that_its_label_has() {
        for refusal in Refusal::ALL {
            assert_eq!(serde_json::to_value(refusal).unwrap(), refusal.code());
        }
    }

    #[test]
    fn a_reason_carries_its_code_on_the_wire_and_a_sentence_for_people() {
        let reason = Reason::HashMismatch { expected: "ab".repeat(32), found: "cd".repeat(32), retry_in_ms: 90_000 };
        assert_eq!(serde_json::to_value(&reason).unwrap()["code"], reason.code());
        assert_eq!(
            reason.to_string(),
            "refused: the catalog names abababab, the bytes that came are cdcdcdcd; next try in 90 s"
        );
    }
}
