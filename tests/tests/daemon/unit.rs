//! The systemd unit beside what the daemon says of itself. That systemd understands the unit is for
//! `tests/units` to check, where systemd is installed.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8Path;
use supervisor_protocol::time::parse_duration;

use crate::node::Node;
use crate::tools::run;

/// The settings of a unit's `[Service]`, each with its last value.
fn service(file: &str) -> BTreeMap<String, String> {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (mut section, mut found) = (String::new(), BTreeMap::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if section == "Service" {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            found.insert(key.to_owned(), value.to_owned());
        }
    }
    found
}

/// A time span of systemd, as far as our units use them.
fn span(text: &str) -> Duration {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let count: u64 = text[..text.len() - unit.len()].parse().unwrap();
    Duration::from_secs(
        count
            * match unit {
                "min" => 60,
                "s" => 1,
                other => panic!("{other:?} in {text:?}"),
            },
    )
}

/// F34: systemd's kill comes after versiond's own deadline, whichever settings are defaults.
#[tokio::test]
async fn f34_the_unit_stops_later_than_the_default_shutdown_budget() {
    let node = Node::new("");
    let minimal = node.folder().join("minimal.toml");
    std::fs::write(&minimal, "[host]\nid = \"h\"\n[catalog]\nsource = \"https://catalog.test/\"\n").unwrap();
    let checked = run("versiond", ["check", "--config", minimal.as_str()]).await;
    let budget = checked.out.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("host.shutdown_budget")).then(|| parse_duration(words.next()?).ok())?
    });
    let budget = budget.unwrap_or_else(|| panic!("{checked:?}"));
    let unit = service("versiond.service");
    let stop = span(&unit["TimeoutStopSec"]);
    assert!(stop > budget, "TimeoutStopSec is {stop:?}, the budget {budget:?}");
    if let Some(of_gpu) = service("versiond.service.d/gpu.conf").get("TimeoutStopSec") {
        assert!(span(of_gpu) > budget, "{of_gpu}");
    }
}

#[test]
fn the_unit_signals_versiond_alone_and_starts_it_as_the_readme_says() {
    let unit = service("versiond.service");
    let expected = [
        // SIGTERM to versiond alone, which stops its children; SIGKILL to whatever is left of the group.
        ("KillMode", "mixed"),
        ("KillSignal", "SIGTERM"),
        ("Type", "notify"),
        ("Delegate", "yes"),
        // One child out of memory is not the end of the others.
        ("OOMPolicy", "continue"),
        ("Restart", "always"),
        ("ExecStart", "/usr/bin/versiond run --config /etc/versiond/versiond.toml"),
        ("ExecStartPre", "/usr/bin/versiond check --config /etc/versiond/versiond.toml"),
    ];
    for (key, value) in expected {
        assert_eq!(unit.get(key).map(String::as_str), Some(value), "{key}");
    }
    // Each request takes two descriptors.
    assert!(unit["LimitNOFILE"].parse::<u64>().unwrap() >= 65_536);
}
