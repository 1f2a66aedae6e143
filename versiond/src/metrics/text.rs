//! Families whose values are counted elsewhere, written in the OpenMetrics text format.
//!
//! Must not live here: where the values come from.

use std::fmt::{Display, Write as _};

use super::declared::{Declared, Kind};

/// A text that families are appended to.
pub(super) struct Families<'t>(pub(super) &'t mut String);

/// One of them, which has been declared in the text.
pub(super) struct Lines<'t> {
    text: &'t mut String,
    declared: &'static Declared,
}

impl Families<'_> {
    pub(super) fn begin(&mut self, declared: &'static Declared) -> Lines<'_> {
        let Declared { name, kind, help, .. } = declared;
        // Writing to a string does not fail.
        writeln!(self.0, "# HELP versiond_{name} {help}.\n# TYPE versiond_{name} {kind}").ok();
        Lines { text: self.0, declared }
    }

    /// A family of one series without labels.
    pub(super) fn single(&mut self, declared: &'static Declared, value: impl Display) {
        self.begin(declared).series(&[], value);
    }
}

impl Lines<'_> {
    /// A series of a counter or a gauge.
    pub(super) fn series(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let suffix = match self.declared.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(suffix, labels, value);
    }

    /// The series of a histogram over seconds: counts up to each bound in milliseconds, and above the one before.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        up_to_ms: impl Iterator<Item = (u64, u64)>,
        count: u64,
        sum_ms: u64,
    ) {
        let mut so_far = 0;
        for (bound, more) in up_to_ms {
            so_far += more;
            self.bucket(labels, &seconds(bound), so_far);
        }
        self.bucket(labels, "+Inf", count.max(so_far));
        self.line("_count", labels, count.max(so_far));
        self.line("_sum", labels, seconds(sum_ms));
    }

    fn bucket(&mut self, labels: &[(&str, &str)], bound: &str, count: u64) {
        let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
        self.line("_bucket", &labels, count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.text, "versiond_{}{suffix}{labels} {value}", self.declared.name).ok();
    }
}

pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::declared;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_everything() {
        let mut text = String::new();
        let counts = [(10, 2), (2_500, 1)].into_iter();
        Families(&mut text).begin(&declared::HOLD_SECONDS).histogram(&[("service", "a")], counts, 4, 62_001);
        let series: Vec<&str> =
            text.lines().skip(2).map(|line| line.strip_prefix("versiond_hold_seconds").unwrap()).collect();
        assert_eq!(
            series,
            [
                "_bucket{service=\"a\",le=\"0.010\"} 2",
                "_bucket{service=\"a\",le=\"2.500\"} 3",
                "_bucket{service=\"a\",le=\"+Inf\"} 4",
                "_count{service=\"a\"} 4",
                "_sum{service=\"a\"} 62.001",
            ]
        );
    }
}
