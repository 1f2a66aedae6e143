//! Builds of the older contract that share a database with other hosts, and the schema that has to be there first.

use std::time::Duration;

use camino::Utf8PathBuf;
use demo_child::{Behaviour, DATABASE, Older};
use supervisor_protocol::Reason;

use crate::common::release;
use crate::mirror::Mirror;
use crate::node::Node;
use crate::releases::{Document, Release};

/// How long an orderly stop may take.
const WITHIN: Duration = Duration::from_secs(60);

struct Stand {
    mirror: Mirror,
    node: Node,
    database: Utf8PathBuf,
}

impl Stand {
    async fn new() -> Stand {
        let mirror = Mirror::start().await;
        let node = Node::new(&mirror.as_source());
        let database = node.folder().join("database");
        std::fs::create_dir(&database).unwrap();
        node.set(&format!(
            "[service.demo]\ncontract = \"older\"\nha = true\nnon_ha_versions = \"v0.0\"\nenv = {{ {DATABASE} = \"{database}\" }}\n\
             [timing]\nstop_grace = \"1s\"\n"
        ));
        Stand { mirror, node, database }
    }

    fn offer(&self, build: &str, older: Older) -> Release {
        let behaviour = Behaviour { older: Some(older), ..Behaviour::named(build) };
        let program = std::fs::read(release("demo-child-told")).unwrap();
        self.mirror.offer_program(behaviour.build_from(&program))
    }

    fn lose_database(&self) {
        std::fs::write(self.database.join("away"), "").unwrap();
    }

    fn find_database(&self) {
        std::fs::remove_file(self.database.join("away")).unwrap();
    }

    /// Every build that has started, and whether the schema was there.
    fn starts(&self) -> Vec<String> {
        let mut starts: Vec<String> =
            std::fs::read_to_string(self.database.join("starts")).unwrap().lines().map(str::to_owned).collect();
        starts.sort();
        starts
    }

    /// Waits until the build of this slot waits for the schema, and says for which slots.
    async fn ahead_of(&self, slot: &str) -> Vec<String> {
        let reason = self.node.until_why(slot, |reason| reason.code() == "schema_wait").await;
        let Reason::SchemaWait { slots, .. } = reason else { panic!("{reason}") };
        slots.iter().map(ToString::to_string).collect()
    }
}

/// Of builds that start on an empty database, those that can bring the schema come first; what is said to have a
/// database of its own waits for none, and what has served comes back whatever the others do.
#[tokio::test]
async fn a_build_that_is_too_old_waits_until_another_has_brought_the_schema() {
    let stand = Stand::new().await;
    let (own, old) = (stand.offer("own", Older::WithoutSchema), stand.offer("old", Older::WithoutSchema));
    let new = stand.offer("new", Older::WithSchema);
    stand.lose_database();
    stand.mirror.publish(&Document::of([("v0.0", own.clone()), ("v0.1", old.clone()), ("v0.2", new.clone())]));
    stand.node.start();
    // Its admin socket may not be there yet.
    stand.node.until_ready(|all| all.ready).await;
    let failed = stand.node.until_why("v0.2", |reason| reason.code() == "preflight_failed").await;
    assert!(failed.to_string().contains("--initialize-postgres-schema"), "{failed}");
    assert_eq!(stand.ahead_of("v0.1").await, ["v0.2"], "a step that has failed opens nothing");
    stand.node.until_settled("v0.0", &own.sha256).await;
    assert_eq!(stand.starts(), ["own nothing"]);
    stand.find_database();
    stand.node.until_settled("v0.1", &old.sha256).await;
    stand.node.until_settled("v0.2", &new.sha256).await;
    assert_eq!(stand.starts(), ["new schema", "old schema", "own nothing"]);
    assert!(!stand.node.why_slot("v0.1").await.contains(&"schema_wait"));
    let stopped = stand.node.supervisor.stop(WITHIN).await.unwrap();
    assert_eq!(stopped.code(), Some(0), "{}", stand.node.last_words());
    stand.lose_database();
    stand.node.start();
    stand.node.until_ready(|_| true).await;
    stand.node.until_settled("v0.1", &old.sha256).await;
    stand.node.until_why("v0.2", |reason| reason.code() == "preflight_failed").await;
    stand.node.end().await;
}

/// Where nobody can bring the schema nobody waits for it; once somebody might, what serves goes on while its
/// successor waits.
#[tokio::test]
async fn where_all_builds_are_too_old_none_waits_and_what_serves_goes_on_while_its_successor_does() {
    let stand = Stand::new().await;
    let old = ["a", "b", "c"].map(|build| stand.offer(build, Older::WithoutSchema));
    // Bytes that are not the right ones will not run, whatever they know.
    let wrong = Release { sha256: "00".repeat(32), ..stand.offer("wrong", Older::WithSchema) };
    let first = Document::of([("v0.1", old[0].clone()), ("v0.2", old[1].clone())]);
    let first = first.with("v0.4", &wrong);
    stand.mirror.publish(&first);
    stand.node.start();
    stand.node.until_ready(|_| true).await;
    stand.node.until_settled("v0.1", &old[0].sha256).await;
    stand.node.until_settled("v0.2", &old[1].sha256).await;
    assert_eq!(stand.starts(), ["a nothing", "b nothing"]);
    stand.lose_database();
    let second = first.with("v0.3", &stand.offer("new", Older::WithSchema)).with("v0.1", &old[2]);
    stand.mirror.publish(&second);
    assert_eq!(stand.ahead_of("v0.1").await, ["v0.3"]);
    assert_eq!(stand.node.get("/v0.1/hello").await.text(), "a");
    stand.find_database();
    stand.node.until_settled("v0.1", &old[2].sha256).await;
    assert_eq!(stand.node.get("/v0.1/hello").await.text(), "c");
    assert_eq!(stand.starts(), ["a nothing", "b nothing", "c schema", "new schema"]);
    stand.node.end().await;
}
