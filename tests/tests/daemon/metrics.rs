//! The metrics: their format, and that they move with what happens.

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::http::{EventStream, get};
use crate::node::Node;
use crate::releases::{Build, Document};

/// An exposition in the OpenMetrics text format, read strictly.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Type and help of each family.
    pub(crate) families: BTreeMap<String, (String, String)>,
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Exposition {
    pub(crate) fn read(text: &str) -> Exposition {
        let mut read = Exposition::default();
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                let fresh = read.families.insert(name.to_owned(), (String::new(), help.to_owned()));
                assert_eq!(fresh, None, "{name} is declared twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                read.families.get_mut(name).unwrap_or_else(|| panic!("{name} has no HELP")).0 = kind.to_owned();
            } else {
                assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(read.samples.insert(series.to_owned(), value), None, "{series} twice");
            }
        }
        read
    }

    /// The family of a series, by the suffix that its type gives it.
    fn family(&self, series: &str) -> Option<&(String, String)> {
        let name = series.split('{').next().unwrap();
        let fits = |kind: &str, suffixes: &[&str]| {
            suffixes.iter().find_map(|suffix| self.families.get(name.strip_suffix(suffix)?).filter(|it| it.0 == kind))
        };
        fits("counter", &["_total"])
            .or_else(|| fits("histogram", &["_bucket", "_sum", "_count"]))
            .or_else(|| fits("gauge", &[""]))
    }

    /// The sum of a family's series whose labels are all of these.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_family = |series: &str| series.split('{').next() == Some(name);
        let series = self.samples.iter().filter(|(series, _)| of_family(series));
        series.filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, value)| value).sum()
    }
}

async fn read(node: &Node) -> Exposition {
    let answer = node.get_admin("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    Exposition::read(&answer.text())
}

#[tokio::test]
async fn every_family_is_declared_and_moves_with_a_swap() {
    let document = Document::of([("v0.3", Build::A.in_place())]);
    let node = Node::serving(&document, "").await;
    let before = read(&node).await;
    for series in before.samples.keys() {
        let (kind, help) = before.family(series).unwrap_or_else(|| panic!("{series} is of no family"));
        assert!(!kind.is_empty() && !help.is_empty(), "{series}");
    }
    let slot = ["service=\"demo\"", "version=\"v0.3\""];
    assert_eq!(before.sum("versiond_publications_total", &slot), 1.0);
    assert_eq!(before.sum("versiond_slot_ready", &slot), 1.0);
    assert_eq!(before.sum("versiond_host_state", &["state=\"serving\""]), 1.0);
    assert_eq!(before.sum("versiond_host_state", &[]), 1.0);

    let stream = EventStream::open(node.host, "/v0.3", 2_000).await;
    let during = read(&node).await;
    assert_eq!(during.sum("versiond_leases", &[slot[0], slot[1], "class=\"stream\"", "generation=\"1\""]), 1.0);
    let b = Build::B.in_place();
    node.publish(&document.with("v0.3", &b));
    stream.finish().await.unwrap();
    node.until_settled("v0.3", &b.sha256).await;
    assert_eq!(node.get("/v0.5/hello").await.status, 404);

    let after = read(&node).await;
    let moved = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
    assert_eq!(moved("versiond_publications_total", &slot), 1.0);
    for (phase, entered) in
        [("serving", 1.0), ("retired", 1.0), ("draining", 1.0), ("terminating", 1.0), ("failed", 0.0)]
    {
        let label = format!("phase=\"{phase}\"");
        assert_eq!(moved("versiond_generation_transitions_total", &[slot[0], slot[1], &label]), entered, "{phase}");
    }
    assert_eq!(moved("versiond_drained_leases_total", &[slot[0], "class=\"stream\""]), 1.0);
    assert_eq!(moved("versiond_cut_leases_total", &slot), 0.0);
    assert_eq!(moved("versiond_drain_seconds_count", &slot), 1.0);
    assert_eq!(moved("versiond_requests_total", &[]), moved("versiond_client_connections_total", &[]));
    assert_eq!(moved("versiond_answered_requests_total", &[]), 1.0);
    assert_eq!(moved("versiond_refused_requests_total", &["reason=\"not_found\""]), 1.0);
    node.end().await;
}

#[tokio::test]
async fn a_childs_own_metrics_are_given_with_the_labels_of_its_generation() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    let read = read(&node).await;
    let labels = ["service=\"demo\"", "version=\"v0.3\"", "generation=\"1\""];
    assert_eq!(read.sum("versiond_child_metrics_up", &labels), 1.0);
    assert_eq!(read.sum("versiond_generation", &[labels[0], labels[1], labels[2], "phase=\"serving\"", "sha12="]), 1.0);
    let of_child = |series: &&String| !series.starts_with("versiond_");
    let theirs: Vec<&String> = read.samples.keys().filter(of_child).collect();
    assert!(!theirs.is_empty());
    for series in theirs {
        assert!(labels.iter().all(|label| series.contains(label)), "{series}");
    }
    node.end().await;
}

#[tokio::test]
async fn the_metrics_listener_gives_the_same_families_and_nothing_else() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!("[host]\nmetrics = \"{free}\"\n");
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), &settings).await;
    let answer = get(free, "/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(Exposition::read(&answer.text()).families, read(&node).await.families);
    for path in ["/v1/status", "/v1/drain", "/drain/status"] {
        assert_eq!(get(free, path).await.unwrap().status, 404, "{path}");
    }
    node.end().await;
}
