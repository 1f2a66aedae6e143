//! The text of somebody else's metrics: read strictly, labelled, and merged with that of others, so that each
//! family stands once in what is given on. Reads both the Prometheus and the OpenMetrics text format, writes
//! the latter.
//!
//! Pure. Must not live here: where the text comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a child may not name itself: it would pass for the supervisor's own.
const OWN: &str = "versiond_";
/// Names of labels that are added; a child's own of the same name is kept under `exported_`.
const ADDED: [&str; 3] = ["service", "version", "generation"];

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("line {0}: not a name")]
    Name(usize),
    #[error("line {0}: labels that do not end, or are none")]
    Labels(usize),
    #[error("line {0}: not a number")]
    Value(usize),
    #[error("line {0}: this series stands twice")]
    Twice(usize),
}

/// Families by name.
#[derive(Debug, Default)]
pub(super) struct Merged {
    families: BTreeMap<String, Family>,
    /// Families that one text declares otherwise than another: the first one counts.
    pub(super) conflicts: u64,
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<String>,
}

/// One line with a value.
struct Sample<'t> {
    name: &'t str,
    labels: Vec<(&'t str, &'t str)>,
    value: &'t str,
}

impl Merged {
    /// Adds a text whose every series gets `labels`. A text with an error adds nothing.
    pub(super) fn add(&mut self, text: &str, labels: &[(&str, &str)]) -> Result<(), Malformed> {
        for (name, family) in read(text, labels)? {
            if name.starts_with(OWN) {
                self.conflicts += 1;
                continue;
            }
            let known = self.families.entry(name).or_insert_with(|| Family {
                kind: family.kind.clone(),
                help: family.help.clone(),
                samples: Vec::new(),
            });
            if known.kind == family.kind {
                known.samples.extend(family.samples);
            } else {
                self.conflicts += 1;
            }
        }
        Ok(())
    }

    /// All families, without the end mark.
    pub(super) fn render(&self, text: &mut String) {
        for (name, Family { kind, help, samples }) in &self.families {
            let help = if help.is_empty() { "As the child has it." } else { help };
            // Writing to a string does not fail.
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
            for sample in samples {
                writeln!(text, "{sample}").ok();
            }
        }
    }
}

fn read(text: &str, labels: &[(&str, &str)]) -> Result<BTreeMap<String, Family>, Malformed> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut kinds: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.trim_start().splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some(kind)) => {
                    kinds.entry(family_of(name, kind)).or_default().0 = kind_of(kind)
                }
                (Some("HELP"), Some(name), Some(help)) => {
                    kinds.entry(name.to_owned()).or_default().1 = help.to_owned();
                }
                (Some("EOF"), None, None) => break,
                _ => {}
            }
            continue;
        }
        let sample = sample(line, number)?;
        let (name, kind) = belongs(&kinds, sample.name);
        let rendered = rendered(&sample, labels);
        if !seen.insert(rendered.clone()) {
            return Err(Malformed::Twice(number));
        }
        let help = || {
            let told = [name.as_str(), sample.name].into_iter().filter_map(|name| kinds.get(name));
            told.map(|(_, help)| help.clone()).find(|help| !help.is_empty())
        };
        let family = families.entry(name.clone()).or_insert_with(|| Family { kind, ..Family::default() });
        if family.help.is_empty() {
            family.help = help().unwrap_or_default();
        }
        family.samples.push(format!("{rendered} {}", sample.value));
    }
    Ok(families)
}

/// The Prometheus format names a counter's family by its series.
fn family_of(name: &str, kind: &str) -> String {
    let name = if kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { name };
    name.to_owned()
}

fn kind_of(kind: &str) -> String {
    match kind {
        "untyped" => "unknown".to_owned(),
        kind => kind.to_owned(),
    }
}

/// The family of a series and its type, by the suffixes that each type allows.
fn belongs(kinds: &BTreeMap<String, (String, String)>, series: &str) -> (String, String) {
    const SUFFIXES: [(&str, &[&str]); 4] = [
        ("counter", &["_total", "_created"]),
        ("histogram", &["_bucket", "_sum", "_count", "_created"]),
        ("summary", &["", "_sum", "_count", "_created"]),
        ("info", &["_info"]),
    ];
    for (kind, suffixes) in SUFFIXES {
        for name in suffixes.iter().filter_map(|suffix| series.strip_suffix(suffix)) {
            if kinds.get(name).is_some_and(|(declared, _)| declared == kind) {
                return (name.to_owned(), kind.to_owned());
            }
        }
    }
    match kinds.get(series) {
        Some((kind, _)) if kind == "gauge" => (series.to_owned(), kind.clone()),
        // A series that breaks the rules of its type would break the reader of everything.
        _ => (series.to_owned(), "unknown".to_owned()),
    }
}

fn sample(line: &str, number: usize) -> Result<Sample<'_>, Malformed> {
    let end = line.find(['{', ' ', '\t']).ok_or(Malformed::Value(number))?;
    let (name, rest) = line.split_at(end);
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':');
    if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Err(Malformed::Name(number));
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest).ok_or(Malformed::Labels(number))?,
        None => (Vec::new(), rest),
    };
    // A time stamp and an exemplar may follow: neither is given on.
    let value = rest.split_whitespace().next().ok_or(Malformed::Value(number))?;
    if value.parse::<f64>().is_err() {
        return Err(Malformed::Value(number));
    }
    Ok(Sample { name, labels, value })
}

/// Labels up to the closing brace, values as they are escaped, and what comes after.
fn labels(mut rest: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            return None;
        }
        let after = after.trim_start().strip_prefix('"')?;
        let mut escaped = false;
        let end = after.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        labels.push((name, &after[..end]));
        rest = &after[end + 1..];
    }
}

fn rendered(sample: &Sample<'_>, added: &[(&str, &str)]) -> String {
    let mut text = format!("{}{{", sample.name);
    let mut separator = "";
    for (name, value) in added {
        write!(text, "{separator}{name}=\"{value}\"").ok();
        separator = ",";
    }
    for (name, value) in &sample.labels {
        let prefix = if ADDED.contains(name) { "exported_" } else { "" };
        write!(text, "{separator}{prefix}{name}=\"{value}\"").ok();
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(texts: &[&str]) -> (String, u64) {
        let mut merged = Merged::default();
        for (number, text) in texts.iter().enumerate() {
            let generation = number.to_string();
            merged.add(text, &[("service", "demo"), ("generation", &generation)]).unwrap();
        }
        let mut text = String::new();
        merged.render(&mut text);
        (text, merged.conflicts)
    }

    #[test]
    fn families_of_two_children_are_merged_and_their_series_told_apart() {
        let prometheus = "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{kind=\"a\"} 3 1700000000000\n";
        let open =
            "# HELP jobs Jobs.\n# TYPE jobs counter\njobs_total{kind=\"a\"} 4 # {trace=\"x\"} 1\n# EOF\nnonsense\n";
        let (text, conflicts) = merged(&[prometheus, open]);
        let expected = "# HELP jobs Jobs.\n# TYPE jobs counter\n\
            jobs_total{service=\"demo\",generation=\"0\",kind=\"a\"} 3\n\
            jobs_total{service=\"demo\",generation=\"1\",kind=\"a\"} 4\n";
        assert_eq!((text.as_str(), conflicts), (expected, 0));
    }

    #[test]
    fn every_type_keeps_its_series_and_what_breaks_the_rules_is_unknown() {
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} 1\n\
            s_sum 1\n# TYPE g gauge\ng NaN\n# TYPE bare counter\nbare 1\nloose 7\n";
        let (text, _) = merged(&[text]);
        for expected in [
            "# TYPE h histogram\nh_bucket{service=\"demo\",generation=\"0\",le=\"+Inf\"} 2\nh_sum{",
            "# TYPE s summary\ns{service=\"demo\",generation=\"0\",quantile=\"0.5\"} 1\ns_sum{",
            "# TYPE g gauge\ng{service=\"demo\",generation=\"0\"} NaN\n",
            "# TYPE bare unknown\nbare{",
            "# TYPE loose unknown\nloose{",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_child_neither_passes_for_the_supervisor_nor_for_another_generation() {
        let (text, conflicts) = merged(&["versiond_slot_ready 1\nok{service=\"mine\",v=\"a\\\"}b\"} 1\n"]);
        assert_eq!(conflicts, 1);
        let expected = "ok{service=\"demo\",generation=\"0\",exported_service=\"mine\",v=\"a\\\"}b\"} 1\n";
        assert!(text.ends_with(expected) && !text.contains("versiond_"), "{text}");
    }

    #[test]
    fn families_that_disagree_on_their_type_are_not_mixed() {
        let (text, conflicts) = merged(&["# TYPE x gauge\nx 1\n", "# TYPE x counter\nx_total 2\n"]);
        assert_eq!((text.contains("x_total"), conflicts), (false, 1), "{text}");
    }

    #[test]
    fn a_text_with_an_error_is_refused_with_its_line() {
        let refused = |text: &str| Merged::default().add(text, &[]).unwrap_err();
        assert_eq!(refused("a 1\n9b 2\n"), Malformed::Name(2));
        assert_eq!(refused("a{x=\"1} 1\n"), Malformed::Labels(1));
        assert_eq!(refused("a{1x=\"1\"} 1\n"), Malformed::Labels(1));
        assert_eq!(refused("a one\n"), Malformed::Value(1));
        assert_eq!(refused("a\n"), Malformed::Value(1));
        assert_eq!(refused("a{} 1\na 2\n"), Malformed::Twice(2));
    }
}
