//! Every metric of the daemon: its name, type, labels and meaning. docs/metrics.md is written from it.
//!
//! Must not live here: a value, or when it changes.

use std::fmt;

/// A metric as it is told of. Its name goes without the prefix, and a counter's without its suffix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    #[cfg_attr(not(test), allow(dead_code, reason = "each series carries its own"))]
    pub(super) labels: &'static [&'static str],
    /// Without the full stop at its end.
    pub(super) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

macro_rules! declared {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Declared =
            Declared { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        // Of tests alone, so that one which nothing uses is found by the compiler.
        #[cfg(test)]
        const ALL: &[Declared] = &[$($constant),*];
    };
}

declared! {
    BUILD = Gauge "build" ["version"] "1, with the version of the daemon";
    UPTIME = Gauge "uptime_seconds" [] "Since the daemon's start";
    HOST_STATE = Gauge "host_state" ["state"] "1 for the state that the host is in";
    ISOLATION = Gauge "isolation" ["processes", "users", "socket_ownership"] "1, with how far children are kept apart";
    CATALOG_AGE = Gauge "catalog_age_seconds" [] "Since the source last gave a good document; absent before";
    CATALOG_REVISION = Gauge "catalog_revision" [] "Of the document in force, when it carries one";
    CATALOG_REFUSED = Gauge "catalog_refused" ["reason"] "1 while the last reading was not used, by reason";
    LEDGER_FAILURES = Counter "ledger_failures" [] "Writes of the ledger that failed";
    ACTS = Counter "acts" ["code"] "Changes asked for at the admin API, by what came of them";
    ADMIN_REFUSED = Counter "admin_refused" ["code"] "Callers whom the admin API did not let in";

    STORE_BYTES = Gauge "store_bytes" [] "What the artifacts take on the disk";
    FETCHES = Counter "fetches" ["outcome"] "Attempts to get an artifact that the store does not have, by outcome: ok, hash_mismatch, refused (by an address, or the bytes are of no use), failed";
    FETCHED_BYTES = Counter "fetched_bytes" [] "Bytes of artifacts that were received, whatever came of them";
    FETCH_SECONDS = Histogram "fetch_seconds" [] "How long these attempts took, without waiting for their turn";

    SLOT_READY = Gauge "slot_ready" ["service", "version"] "1 while a routed child of the slot is live-ready";
    SLOT_WAITING = Gauge "slot_waiting" ["service", "version", "reason"] "1 for every reason for which a slot waits";
    TRANSITIONS = Counter "generation_transitions" ["service", "version", "phase"] "Phases entered by generations";
    FAILURES = Counter "generation_failures" ["service", "version", "reason"] "Generations that failed, by reason";
    PUBLICATIONS = Counter "publications" ["service", "version"] "Generations published";
    SWAPS = Counter "swaps" ["service", "version", "strategy", "outcome"] "Generations started beside or in the place of one that serves, by outcome: done, failed, abandoned (another is wanted), given_up (the old one did not empty in time), and once more rolled_back when what was done is taken back";
    SWAP_SECONDS = Histogram "swap_seconds" ["service", "version", "strategy"] "How long swaps that were done took, from the moment nothing but the change itself was to be waited for, until the new one served";
    ROLLBACKS = Counter "rollbacks" ["service", "version", "cause"] "Builds that were taken back, by cause";
    RESTARTS = Counter "restarts" ["service", "version"] "Starts of bytes whose last process had ended by itself";
    CRASH_EXITS = Counter "crash_exits" ["service", "version", "by", "number"] "Processes that ended by themselves, by signal or exit code; those that drained and then ended well are none";
    GENERATION = Gauge "generation" ["service", "version", "generation", "phase", "sha12", "binary_version"] "1 for every live generation, with what it is";

    LEASES = Gauge "leases" ["service", "version", "generation", "phase", "class"] "Leases of each live generation, by class";
    DRAINED = Counter "drained_leases" ["service", "version", "class"] "Leases that ended by themselves during a drain";
    CUT = Counter "cut_leases" ["service", "version", "class"] "Leases that a deadline or a force ended";
    DRAIN_SECONDS = Histogram "drain_seconds" ["service", "version"] "How long drains took";
    DRAINING_SECONDS = Gauge "draining_seconds" ["service", "version", "generation"] "For how long each generation has been draining";
    DRAINING_INFLIGHT = Gauge "draining_inflight" ["service", "version", "generation"] "What is in flight in each generation that drains";

    REQUESTS = Counter "requests" [] "Requests whose head was read";
    ANSWERED = Counter "answered_requests" [] "Responses of children that were passed on";
    LOCAL = Counter "local_requests" [] "Answers of the host's own endpoints";
    REFUSED = Counter "refused_requests" ["reason"] "Requests that no child answered, by reason";
    RETRIES = Counter "retries" [] "Attempts beyond the first";
    HELD = Counter "held_requests" [] "Requests that waited for a slot without a serving generation";
    HELD_NOW = Gauge "held_requests_now" [] "Requests that wait now";
    HELD_BYTES_NOW = Gauge "held_bytes_now" [] "What these may take of memory";
    HELD_LONGEST = Gauge "held_longest_seconds" [] "The longest that a request has waited since the start";
    HOLD_ENDS = Counter "hold_ends" ["service", "version", "outcome"] "Requests that waited for a slot or found no room to, by outcome: admitted, expired, refused, client_gone, full";
    HOLD_SECONDS = Histogram "hold_seconds" ["service", "version"] "How long requests waited for a slot, to whatever end";
    CONNECTIONS = Counter "client_connections" [] "Connections of clients";
    CONNECTIONS_NOW = Gauge "client_connections_now" [] "Open connections of clients";
    NOT_BEGUN = Counter "client_connections_not_begun" [] "Connections that ended before a request could be read";
    INFLIGHT_NOW = Gauge "requests_inflight_now" [] "Requests in flight, those that wait among them";
    UPSTREAM_CONNECTIONS = Counter "upstream_connections" [] "Connections made to children";

    LOG_LINES_LOST = Counter "log_lines_lost" ["service", "version"] "Lines of children that the log did not take";
    CHILD_METRICS_UP = Gauge "child_metrics_up" ["service", "version", "generation"] "1 while a child's own metrics can be read";
    CHILD_METRICS_CONFLICTS = Gauge "child_metrics_conflicts" [] "Families of children that were left out: declared otherwise than another child's, or named as the supervisor's own";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\n\
             What `GET /metrics` gives of versiond itself, in the OpenMetrics text format.\n\
             Those of its children stand beside it, each with the labels `service`, `version` and `generation`.\n\
             `version` is a slot's name, `generation` one that lives. A histogram has its series with the suffixes `_bucket`, `_sum` and `_count`.\n\n\
             | metric | type | labels | meaning |\n|---|---|---|---|\n",
        );
        for Declared { name, kind, labels, help } in ALL {
            let suffix = if *kind == Kind::Counter { "_total" } else { "" };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(page, "| `versiond_{name}{suffix}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
        }
        page
    }

    /// `UPDATE=1` in the environment of this test rewrites the page.
    #[test]
    fn the_page_of_the_metrics_says_what_is_declared() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(PAGE, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(PAGE).unwrap_or_default(), page(), "UPDATE=1 rewrites docs/metrics.md");
    }
}
