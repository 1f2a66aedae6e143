//! The figures as a table for people.

use super::pairs::Ratio;
use super::{Figure, Peers, Section, Who};

/// The table.
#[must_use]
pub fn table(peers: &Peers) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["what", "figure", "who", "median", "to haproxy, with its 95 % interval"]);
    for section in Section::ALL {
        let figures = peers.sections.get(&section).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            for who in [Who::Direct, Who::Haproxy, Who::Nginx, Who::Ours, Who::OursAgain] {
                if let Some(figure) = figures.iter().find(|figure| figure.who == who && figure.name == name) {
                    table.add_row(row(section, figure));
                }
            }
        }
    }
    let versions: Vec<&str> = peers.versions.values().map(String::as_str).collect();
    format!("{table}\n{} repetitions on {} cores: {}", peers.repetitions, peers.cores, versions.join("; "))
}

fn row(section: Section, figure: &Figure) -> [String; 5] {
    let beside = match (figure.to_haproxy, figure.to_itself) {
        (ratio, Some(itself)) => format!("{}; to the first: {}", shown(ratio), shown(Some(itself))),
        (ratio, None) => shown(ratio),
    };
    [
        section.name().to_owned(),
        unit(figure.name).to_owned(),
        figure.who.name().to_owned(),
        number(figure.median),
        beside,
    ]
}

fn shown(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high))
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn unit(name: &'static str) -> &'static str {
    match name {
        "per_second" => "requests a second",
        "cpu_us" => "CPU of a request, µs",
        "p50_us" => "latency p50, µs",
        "p99_us" => "latency p99, µs",
        "added_p50_us" => "added to the direct p50, µs",
        "kib_per_stream" => "memory of a stream, KiB",
        "cpu_us_per_event" => "CPU of an event, µs",
        "broken_or_lost" => "streams broken, events lost",
        "last_on_drained_ms" => "last new session on the drained, ms after the word",
        "refused" => "new sessions refused",
        "moved_wrongly" => "sessions moved off hosts that stay, of 1,000",
        "mb_per_second" => "MB a second",
        "cpu_s_per_gb" => "CPU of a GB, s",
        other => other,
    }
}
