//! The data plane counts for itself; its figures are appended as they are.

use std::fmt::Write as _;

use router_dataplane::PlaneCounters;

pub(super) fn append(text: &mut String, plane: &PlaneCounters) {
    // Writing to a string does not fail.
    let mut counter = |name: &str, help: &str, value: u64| {
        writeln!(text, "# HELP versiond_{name} {help}.\n# TYPE versiond_{name} counter\nversiond_{name}_total {value}")
            .ok();
    };
    counter("requests", "Requests whose head was read", plane.requests);
    counter("answered_requests", "Responses of children that were passed on", plane.answered);
    counter("local_requests", "Answers of the host's own endpoints", plane.local);
    counter("held_requests", "Requests that waited for a slot without a serving generation", plane.held);
    counter("retries", "Attempts beyond the first", plane.retries);
    counter("client_connections", "Connections of clients", plane.connections);
    counter("upstream_connections", "Connections made to children", plane.upstream_connections);
    text.push_str("# HELP versiond_refused_requests Requests that no child answered, by reason.\n# TYPE versiond_refused_requests counter\n");
    for (refusal, count) in &plane.refused {
        writeln!(text, "versiond_refused_requests_total{{reason=\"{}\"}} {count}", refusal.code()).ok();
    }
    let mut gauge = |name: &str, help: &str, value: String| {
        writeln!(text, "# HELP versiond_{name} {help}.\n# TYPE versiond_{name} gauge\nversiond_{name} {value}").ok();
    };
    gauge("held_requests_now", "Requests that wait now", plane.held_now.to_string());
    gauge("held_bytes_now", "What these may take of memory", plane.held_bytes_now.to_string());
    let longest = format!("{}.{:03}", plane.held_longest_ms / 1_000, plane.held_longest_ms % 1_000);
    gauge("held_longest_seconds", "The longest that a request has waited since the start", longest);
    gauge("client_connections_now", "Open connections of clients", plane.connections_now.to_string());
}
