//! The table of the metrics: every one that it names moves when what it counts happens, and no other is spoken of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::alerts::root;
use crate::troubled;

/// What no host can be brought to on purpose within a test of the whole daemon, and the test by which it moves.
const ELSEWHERE: [(&str, &str); 2] = [
    ("versiond_client_connections_not_begun_total", "whoever_speaks_no_tls_or_too_slowly_is_let_go"),
    ("versiond_log_lines_lost_total", "f64_so_much_is_remembered_as_was_said_and_what_the_log_lost_is_counted_by_slot"),
];

/// A row of docs/metrics.md.
#[derive(Debug)]
struct Declared {
    kind: String,
    labels: BTreeSet<String>,
}

fn declared() -> BTreeMap<String, Declared> {
    table("docs/metrics.md")
}

/// The table of metrics of a page.
fn table(page: &str) -> BTreeMap<String, Declared> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        if cells.len() < 4 {
            return None;
        }
        let labels = cells[2].split(", ").map(|label| label.trim().trim_matches('`')).filter(|label| !label.is_empty());
        let declared = Declared { kind: cells[1].to_owned(), labels: labels.map(str::to_owned).collect() };
        Some((cells[0].trim_end_matches('`').to_owned(), declared))
    };
    text.lines().filter_map(row).collect()
}

/// The metric that a series is of.
fn metric_of<'d>(declared: &'d BTreeMap<String, Declared>, series: &str) -> Option<(&'d str, &'d Declared)> {
    let of = |name: &str| declared.get_key_value(name).map(|(name, declared)| (name.as_str(), declared));
    let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| of(series.strip_suffix(suffix)?));
    of(series).or(histogram.filter(|(_, declared)| declared.kind == "histogram"))
}

#[tokio::test]
async fn every_declared_metric_moves_on_a_host_in_trouble_and_no_other_is_there() {
    let declared = declared();
    assert!(declared.len() > 40, "{declared:?}");
    let mut moved = BTreeSet::new();
    for (series, value) in troubled::greatest().await.iter().filter(|(series, _)| series.starts_with("versiond_")) {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let (metric, of) = metric_of(&declared, name).unwrap_or_else(|| panic!("{series} is in no table"));
        let named = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        let named: BTreeSet<String> = named.filter(|label| label != "le").collect();
        assert_eq!(named, of.labels, "{series}");
        if *value > 0.0 {
            moved.insert(metric);
        }
    }
    let elsewhere: BTreeSet<&str> = ELSEWHERE.into_iter().map(|(metric, _)| metric).collect();
    let still: Vec<&str> =
        declared.keys().map(String::as_str).filter(|name| !moved.contains(name) && !elsewhere.contains(name)).collect();
    assert_eq!(still, Vec::<&str>::new(), "nothing moves these");
    let known = elsewhere.iter().filter(|name| moved.contains(*name) || !declared.contains_key(**name));
    assert_eq!(known.count(), 0, "what moves here need not move elsewhere");
}

#[test]
fn what_moves_elsewhere_is_moved_by_a_test_that_exists() {
    let mut sources = String::new();
    for folder in ["versiond/src", "router/dataplane/src", "router/dataplane/tests"] {
        texts(&root().join(folder), "rs", &mut sources);
    }
    for (metric, test) in ELSEWHERE {
        assert!(sources.contains(&format!("fn {test}()")), "{metric}: there is no test {test}");
    }
}

#[test]
fn every_metric_that_the_documents_name_is_declared() {
    // The router's own table is compared with what it emits where that is made.
    let (declared, of_router, mut text) = (declared(), table("docs/router.md"), String::new());
    texts(&root().join("docs"), "md", &mut text);
    texts(&root().join("docs"), "yml", &mut text);
    for file in ["README.md", "SPECIFICATION.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        text += &std::fs::read_to_string(root().join(file)).unwrap();
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = 0;
    for name in
        text.split(|c| !is_word(c)).filter(|word| word.strip_prefix("versiond_").is_some_and(|it| !it.is_empty()))
    {
        let is_routers = metric_of(&of_router, name).is_some();
        assert!(is_routers || metric_of(&declared, name).is_some(), "{name} is in no table");
        found += 1;
    }
    assert!(found > declared.len(), "{found}");
}

fn texts(folder: &Path, extension: &str, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, extension, all);
        } else if path.extension().is_some_and(|it| it == extension) {
            *all += &std::fs::read_to_string(&path).unwrap();
        }
    }
}
