//! The alerts: every metric and label that an expression names exists in what a running daemon says, and every
//! alert has a runbook.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use supervisor_protocol::Reason;

use crate::troubled;

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// A series as an expression names it: its labels with the values that are asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    series: String,
    labels: BTreeMap<String, Vec<String>>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string(root().join("docs/alerts/versiond.rules.yml")).unwrap();
    let rules: Rules = serde_saphyr::from_str(&text).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// The daemon's own series of an expression.
fn named(expression: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("versiond_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let selector = rest[end..].strip_prefix('{').map(|rest| rest.split_once('}').unwrap().0);
        let labels = selector.into_iter().flat_map(|selector| selector.split(','));
        let label = |text: &str| {
            let (name, value) = text.split_once('=').unwrap();
            let values = value.trim_start_matches('~').trim_matches('"').split('|').map(str::to_owned);
            (name.to_owned(), values.collect())
        };
        found.push(Named { series: rest[..end].to_owned(), labels: labels.map(label).collect() });
    }
    found
}

/// The labels that an expression or its texts need of the result: those in `by (…)` and `$labels.…`.
fn needed(rule: &Rule) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for (_, rest) in rule.expr.match_indices("by (").map(|(at, by)| (at, &rule.expr[at + by.len()..])) {
        needed.extend(rest.split_once(')').unwrap().0.split(", ").map(str::to_owned));
    }
    for text in rule.annotations.values() {
        for (at, word) in text.match_indices("$labels.") {
            let rest = &text[at + word.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            needed.insert(rest[..end].to_owned());
        }
    }
    // That one is given by whoever collects.
    needed.remove("instance");
    needed
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let rules = rules();
    let alerts: BTreeSet<&str> = rules.iter().map(|rule| rule.alert.as_str()).collect();
    assert_eq!(alerts.len(), rules.len());
    for rule in &rules {
        let runbook = format!("docs/runbooks/{}.md", rule.alert);
        assert_eq!(rule.annotations.get("runbook"), Some(&runbook));
        assert!(["critical", "warning", "info"].contains(&rule.labels["severity"].as_str()), "{}", rule.alert);
        let text = std::fs::read_to_string(root().join(&runbook)).unwrap_or_else(|error| panic!("{runbook}: {error}"));
        for part in [format!("# {}\n", rule.alert), "\n## Look at\n".to_owned(), "\n## Do\n".to_owned()] {
            assert!(text.contains(&part), "{runbook} has no {part:?}");
        }
    }
    let files = std::fs::read_dir(root().join("docs/runbooks")).unwrap().map(|entry| entry.unwrap().path());
    let books: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(books.iter().map(String::as_str).collect::<BTreeSet<_>>(), alerts);
}

/// The codes that a reason can have, from the committed document of the API.
fn reasons() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/openapi/versiond.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let variants = document["components"]["schemas"]["Reason"]["oneOf"].as_array().unwrap().clone();
    let code = |variant: &Value| variant["properties"]["code"]["const"].as_str().unwrap().to_owned();
    let codes: BTreeSet<String> = variants.iter().map(code).collect();
    assert!(codes.contains(Reason::HostStopping.code()));
    codes
}

#[tokio::test]
async fn every_metric_and_label_of_an_alert_exists_in_a_real_scrape() {
    let (series, reasons) = (troubled::greatest().await, reasons());
    let labels_of = |text: &str| -> BTreeMap<String, String> {
        let inner = text.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        let pairs = inner.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
    };
    for rule in rules() {
        for Named { series: name, labels } in named(&rule.expr) {
            let of_name: Vec<_> = series
                .keys()
                .filter(|text| text.split('{').next() == Some(&name))
                .map(|text| labels_of(text))
                .collect();
            assert!(!of_name.is_empty(), "{}: no daemon says {name}", rule.alert);
            for label in needed(&rule).iter().chain(labels.keys()) {
                assert!(
                    of_name.iter().all(|labels| labels.contains_key(label)),
                    "{}: {name} has no {label}",
                    rule.alert
                );
            }
            for (label, value) in
                labels.iter().flat_map(|(label, values)| values.iter().map(move |value| (label, value)))
            {
                let said = of_name.iter().any(|labels| labels[label] == *value);
                let may_be = label == "reason" && reasons.contains(value);
                assert!(said || may_be, "{}: {name} never has {label}={value:?}", rule.alert);
            }
        }
    }
}

#[test]
fn what_an_expression_names_is_found() {
    let found = named("sum by (a) (rate(versiond_x_total{b=\"c\",d=~\"e|f\"}[5m])) > versiond_y");
    let labels = [("b", vec!["c"]), ("d", vec!["e", "f"])];
    let labels = labels.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
    assert_eq!(found[0], Named { series: "versiond_x_total".to_owned(), labels: labels.into() });
    assert_eq!(found[1], Named { series: "versiond_y".to_owned(), labels: BTreeMap::new() });
}
