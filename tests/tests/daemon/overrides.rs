//! A file in the place of an artifact, and the operator's look at the catalog.

use serde_json::Value;
use supervisor_protocol::catalog::CatalogReport;
use versiond_demo::artifacts::sha256;

use crate::node::{Node, slot};
use crate::releases::{Build, Document};

#[tokio::test]
async fn an_override_runs_is_shown_and_swaps_when_its_file_changes() {
    let document = Document::of([("v0.3", Build::A.in_place()), ("v0.4", Build::A.in_place())]);
    let node = Node::new("");
    let file = node.folder().join("own-build");
    let put = |build: Build| {
        let beside = node.folder().join("own-build.next");
        std::fs::copy(build.program(), &beside).unwrap();
        std::fs::rename(beside, &file).unwrap();
        sha256(&std::fs::read(build.program()).unwrap()).to_string()
    };
    let first = put(Build::B);
    node.set(&format!("[override.\"demo/v0.3\"]\nfile = \"{file}\"\n"));
    node.publish(&document);
    node.start();
    node.until_ready(|all| all.ready).await;
    node.until_settled("v0.3", &first).await;
    node.until_settled("v0.4", &Build::A.in_place().sha256).await;
    let hello: Value = node.get("/v0.3/hello").await.json();
    assert_eq!(hello["build"], "b");
    let shown: CatalogReport = node.get_admin("/v1/catalog").await.json();
    let files: Vec<Option<&str>> = shown.slots.iter().map(|slot| slot.override_file.as_deref()).collect();
    assert_eq!(files, [Some(file.as_str()), None]);
    let status = node.status().await;
    assert_eq!(slot(&status, "v0.3").unwrap().override_file.as_deref(), Some(file.as_str()));
    let second = put(Build::A);
    node.until_settled("v0.3", &second).await;
    node.end().await;
}
