//! Documents and their succession, as tables and against a naive model.

mod documents;
mod heights;
mod plans;
mod removals;

use std::collections::BTreeMap;

use supervisor_protocol::{ServiceName, Sha256, SlotId, VersionName};

use super::*;

fn hash(of: u8) -> Sha256 {
    Sha256([of; 32])
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn version(name: &str) -> VersionName {
    VersionName::new(name).unwrap()
}

fn slot(name: &str) -> SlotId {
    SlotId { service: service("demo"), name: version(name) }
}

fn artifact(of: u8) -> Artifact {
    Artifact {
        sha256: hash(of),
        urls: vec!["https://a.example/a".to_owned()],
        size: None,
        entry: None,
        irreversible: false,
    }
}

/// One release, from the beginning.
fn always(artifact: Artifact) -> Entry {
    Entry::Releases(Releases::only(Release::Artifact(artifact)))
}

/// A document of one service, by version name and the byte that its hash consists of; 0 is blocked.
fn document(revision: Option<u64>, versions: &[(&str, u8)]) -> Catalog {
    let entries = versions.iter().map(|(name, of)| {
        let blocked = || Entry::Blocked(Reason::Unservable { detail: "no artifact".to_owned() });
        (version(name), if *of == 0 { blocked() } else { always(artifact(*of)) })
    });
    Catalog { revision, services: BTreeMap::from([(service("demo"), entries.collect())]), ..Catalog::default() }
}
