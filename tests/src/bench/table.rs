//! The figures as a table for people, each beside what it is to be compared with and, where there is one, its
//! target.

use super::{Bench, CHILDREN, interfaces, proxied};
use crate::report::Spread;

/// What, measured, beside it, target.
type Row = [String; 4];

/// The table.
#[must_use]
pub fn table(bench: &Bench) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["what", "measured", "beside it", "target"]);
    for row in at_rest(bench).into_iter().chain(under_load(bench)).chain(swaps(bench)).chain(detection(bench)) {
        table.add_row(row);
    }
    table.to_string()
}

fn row(what: impl Into<String>, measured: String, beside: String, target: &str) -> Row {
    [what.into(), measured, beside, target.to_owned()]
}

fn at_rest(Bench { idle, streams, .. }: &Bench) -> [Row; 3] {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let kib = |bytes: i64| format!("{:.1} KiB", bytes as f64 / 1_024.0);
    [
        row(
            format!("idle memory of versiond, {CHILDREN} children"),
            format!("{} RSS, {} PSS", mib(idle.versiond.rss_bytes), mib(idle.versiond.pss_bytes)),
            format!("a child: {} PSS", mib(idle.child_pss_bytes_mean)),
            "<= 20 MiB RSS",
        ),
        row(
            format!("idle CPU of versiond, {CHILDREN} children"),
            format!("{:.3} % of a core", idle.versiond.cpu_percent),
            format!("a child: {:.3} %", idle.child_cpu_percent_mean),
            "<= 0.2 %",
        ),
        row(
            format!("memory of an idle stream, {}", streams.streams),
            format!("{} in versiond", kib(streams.versiond_rss_bytes_per_stream)),
            format!("{} in the child, direct", kib(streams.child_rss_bytes_per_stream_direct)),
            "",
        ),
    ]
}

fn under_load(Bench { proxied, interfaces, .. }: &Bench) -> [Row; 6] {
    let share = (interfaces::SHARE * 100.0).round();
    let load = format!("at {share} % of the rate at saturation");
    let answers = |it: &interfaces::Answers| format!("{:.3} ms p99, {:.3} ms at most", it.p99_ms, it.max_ms);
    [
        row(
            "CPU of versiond for a request",
            format!("{:.1} µs", proxied.versiond_cpu_us_per_request),
            format!("the child: {:.1} µs", proxied.child_cpu_us_per_request),
            "",
        ),
        row(
            "latency of a request, p50",
            format!("{:.3} ms", proxied.proxied.p50_ms),
            format!("direct: {:.3} ms", proxied.direct.p50_ms),
            "",
        ),
        row(
            "latency of a request, p99",
            format!("{:.3} ms", proxied.proxied.p99_ms),
            format!("direct: {:.3} ms", proxied.direct.p99_ms),
            "",
        ),
        row(
            format!("requests a second, {} connections", proxied::CONNECTIONS),
            format!("{:.0}", proxied.proxied.per_second),
            format!("direct: {:.0}", proxied.direct.per_second),
            "",
        ),
        row("GET /v1/status on the admin socket", answers(&interfaces.admin_status), load.clone(), "<= 5 ms p99"),
        row("GET /drain/status on status_listen", answers(&interfaces.drain_status), load, "<= 10 ms p99"),
    ]
}

fn detection(Bench { detection, .. }: &Bench) -> [Row; 3] {
    let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let one = |what: &str, spread: &Spread, target: String| {
        let what = format!("both routers move on from a host that {what}, {} times", detection.times);
        row(what, format!("{} p50", ms(spread.p50)), format!("{} at most", ms(spread.max)), &target)
    };
    [
        one("says that it goes", &detection.unready_ms, String::new()),
        one("is killed", &detection.refuses_ms, String::new()),
        one("falls silent", &detection.silent_ms, format!("<= {} ms", detection.window_ms)),
    ]
}

fn swaps(Bench { swaps, .. }: &Bench) -> [Row; 2] {
    let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    [
        row(
            format!("approved to serving, {} swaps", swaps.swaps),
            format!("{} p50", ms(swaps.approved_to_serving_ms.p50)),
            format!("{} at most", ms(swaps.approved_to_serving_ms.max)),
            "",
        ),
        row(
            format!("short requests in swaps, {} streams", swaps.streams_alive),
            format!("{:+.2} ms p50, {:+.2} ms p99", swaps.client_added_ms.p50, swaps.client_added_ms.p99),
            format!("{} failed or cut", swaps.failed_and_cut),
            "0 failed or cut",
        ),
    ]
}
