//! Text for people: ages, tables, and output that a closed pipe does not break.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde_json::Value;
use supervisor_protocol::ByClass;
use supervisor_protocol::admin::describe_load;

/// Milliseconds in at most two units: `840 ms`, `12 s`, `3 min 20 s`, `5 h 2 min`, `2 d 3 h`.
pub(crate) fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    let two = |value: u64, unit: &str, rest: u64, small: &str| {
        if rest == 0 { format!("{value} {unit}") } else { format!("{value} {unit} {rest} {small}") }
    };
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Bytes in the largest unit that leaves a whole number: `840 B`, `12 KiB`, `3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1_024 || units.peek().is_none() {
            return format!("{value} {unit}");
        }
        value /= 1_024;
    }
    format!("{count} B")
}

/// Work that has not ended, and when it is expected to.
pub(crate) fn in_flight(by_class: &ByClass<u64>, oldest_ms: u64, forecast_ms: u64) -> String {
    if *by_class == ByClass::default() {
        return "nothing in flight".to_owned();
    }
    let (load, oldest, forecast) = (describe_load(by_class), age(oldest_ms), age(forecast_ms));
    format!("in flight: {load}, oldest {oldest}, expected empty in {forecast}")
}

/// As much of a hash as people compare.
pub(crate) fn short(sha256: &supervisor_protocol::Sha256) -> String {
    sha256.to_string()[..12].to_owned()
}

/// A table of columns and nothing else, so that it can be cut and searched with ordinary tools.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let mut text = String::new();
    for line in table.lines() {
        // The first column needs no space before it.
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

/// Writes to standard output. Nobody may be reading any more, which is no failure.
pub(crate) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes JSON as it came, for programs.
pub(crate) fn out_json(json: &Value) {
    out(&format!("{json:#}\n"));
}

/// Writes one line to standard error.
pub(crate) fn err(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_at_most_two_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_999, "1 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h"),
            (86_400_000 * 2 + 3_600_000 * 3, "2 d 3 h"),
        ] {
            assert_eq!(age(ms), text);
        }
    }
}
