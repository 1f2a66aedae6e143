//! Session hosts under versiond: what their configuration says, and what the engine has run.

use std::collections::BTreeMap;
use std::path::Path;

use camino::Utf8PathBuf;

use crate::common::{release, target};
use crate::mirror::Mirror;
use crate::node::Node;
use crate::releases::{Document, Release};

/// The name of the version in every catalog here.
pub(crate) const VERSION: &str = "v0.3";
/// Where a client finds it.
pub(crate) const PREFIX: &str = "/v0.3";

/// What several hosts share, beside a database.
pub(crate) struct Ground {
    folder: tempfile::TempDir,
    pub(crate) mirror: Mirror,
}

impl Ground {
    pub(crate) async fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("host.key"), "11".repeat(32)).unwrap();
        Ground { folder, mirror: Mirror::start().await }
    }

    /// A build of devshardd: with another mark it is another artifact, with the same program in it.
    pub(crate) fn build(&self, mark: &str) -> Release {
        self.build_of(&release("devshardd"), mark)
    }

    /// The same, that can break its own guards.
    pub(crate) fn faulty_build(&self) -> Release {
        let program = target().join("faults/release/devshardd");
        assert!(program.is_file(), "{} is missing: `make faults` builds it", program.display());
        self.build_of(&program, "")
    }

    fn build_of(&self, program: &Path, mark: &str) -> Release {
        let mut program = std::fs::read(program).unwrap();
        program.extend_from_slice(mark.as_bytes());
        self.mirror.offer_program(program)
    }

    /// A host that has not been started. `database`: the URL of one that is shared.
    pub(crate) fn host(&self, database: Option<&str>, more: &str) -> Node {
        let node = Node::new(&self.mirror.as_source());
        let place = database.map_or_else(String::new, |url| {
            format!(
                "DEVSHARD_STORAGE_MODE = \"shared\"\nDEVSHARD_DATABASE_URL = \"{url}\"\n\
                 DEVSHARD_KEY_FILE = \"{}\"\n",
                self.path("host.key")
            )
        });
        node.set(&format!(
            "[service.demo.env]\nDEVSHARD_ECHO_EVERY = \"100ms\"\nDEVSHARD_ECHO_JOURNAL = \"{}\"\n{place}{more}",
            self.path("journal")
        ));
        node
    }

    /// A host that is alone with its file and serves its first build.
    pub(crate) async fn alone(&self) -> (Node, Release, Document) {
        let first = self.build("first");
        let document = self.publish(&first);
        let node = self.host(None, "");
        node.start();
        node.until_ready(|all| all.ready).await;
        (node, first, document)
    }

    /// How often the engine has run each inference, on all hosts together.
    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        let journal = std::fs::read_to_string(self.path("journal")).unwrap_or_default();
        journal.lines().fold(BTreeMap::new(), |mut runs, line| {
            *runs.entry(line.to_owned()).or_default() += 1;
            runs
        })
    }

    /// Those that it has run more than once.
    pub(crate) fn doubled(&self) -> Vec<String> {
        self.runs().into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| name).collect()
    }

    pub(crate) fn publish(&self, release: &Release) -> Document {
        let document = Document::of([(VERSION, release.clone())]);
        self.mirror.publish(&document);
        document
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::try_from(self.folder.path().join(name)).unwrap()
    }
}
