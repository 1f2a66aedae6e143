//! What a catalog says: builds of the demo child under version names, as one of the known documents.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use camino::Utf8PathBuf;
use serde_json::{Value, json};
use versiond_demo::artifacts::sha256;
use versiond_demo::catalog::SERVICE;

use crate::common::release;

/// As catalogs name this machine.
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// The builds of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Build {
    A,
    B,
    /// It never becomes ready.
    Stuck,
    /// Its state lives in its data directory.
    Local,
    /// It has no traffic.
    Worker,
}

impl Build {
    const ALL: [Build; 5] = [Build::A, Build::B, Build::Stuck, Build::Local, Build::Worker];

    /// The file of the program.
    pub(crate) fn program(self) -> Utf8PathBuf {
        let binary = match self {
            Build::A => "demo-child-a",
            Build::B => "demo-child-b",
            Build::Stuck => "demo-child-stuck",
            Build::Local => "demo-child-local",
            Build::Worker => "demo-child-worker",
        };
        Utf8PathBuf::try_from(release(binary).canonicalize().unwrap()).unwrap()
    }

    /// The program as it is, named by a `file:` address: only for a catalog that is a file.
    pub(crate) fn in_place(self) -> Release {
        static HASHES: OnceLock<BTreeMap<Build, String>> = OnceLock::new();
        let hash = |build: Build| sha256(&std::fs::read(build.program()).unwrap()).to_string();
        let hashes = HASHES.get_or_init(|| Build::ALL.into_iter().map(|build| (build, hash(build))).collect());
        Release { url: format!("file:{}", self.program()), sha256: hashes[&self].clone() }
    }
}

/// Bytes under an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) url: String,
    pub(crate) sha256: String,
}

/// A document of schema 1.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    revision: u64,
    versions: BTreeMap<String, Value>,
    deny: Vec<String>,
}

impl Document {
    /// Revision 1, with these versions.
    pub(crate) fn of<const N: usize>(versions: [(&str, Release); N]) -> Document {
        let first = Document { revision: 0, versions: BTreeMap::new(), deny: Vec::new() };
        versions.into_iter().fold(first, |document, (name, release)| document.with(name, &release)).at_revision(1)
    }

    fn at_revision(self, revision: u64) -> Document {
        Document { revision, ..self }
    }

    /// The next revision, in which `name` is this release.
    pub(crate) fn with(&self, name: &str, release: &Release) -> Document {
        self.with_artifacts(name, json!({ PLATFORM: {"urls": [release.url], "sha256": release.sha256} }))
    }

    /// The next revision, in which `name` has artifacts for other machines alone.
    pub(crate) fn with_elsewhere(&self, name: &str, release: &Release) -> Document {
        self.with_artifacts(name, json!({ "plan9/mips": {"urls": [release.url], "sha256": release.sha256} }))
    }

    fn with_artifacts(&self, name: &str, artifacts: Value) -> Document {
        let mut next = self.clone().at_revision(self.revision + 1);
        next.versions.insert(name.to_owned(), json!({"name": name, "releases": [{"artifacts": artifacts}]}));
        next
    }

    /// The next revision, which forbids these bytes.
    pub(crate) fn denying(&self, release: &Release) -> Document {
        let mut next = self.clone().at_revision(self.revision + 1);
        next.deny.push(release.sha256.clone());
        next
    }

    /// The next revision, without `name`.
    pub(crate) fn without(&self, name: &str) -> Document {
        let mut next = self.clone().at_revision(self.revision + 1);
        assert!(next.versions.remove(name).is_some(), "{name} is not in the document");
        next
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn text(&self) -> String {
        let versions: Vec<&Value> = self.versions.values().collect();
        json!({"schema": 1, "revision": self.revision, "services": {SERVICE: {"versions": versions}}, "deny": self.deny})
            .to_string()
    }
}

/// The list that upstream's catalogs are.
pub(crate) fn upstream_list(versions: &[(&str, &Release)]) -> String {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(name, release)| json!({"name": name, "binary": release.url, "sha256": release.sha256}))
        .collect();
    json!({ "versions": versions }).to_string()
}
