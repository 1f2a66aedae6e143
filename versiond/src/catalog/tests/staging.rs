//! What is to come is fetched ahead, and only that.

use std::collections::BTreeMap;

use supervisor_protocol::ServiceName;
use supervisor_protocol::catalog::StagedState;

use super::*;
use crate::store::Store;

const SERVICE: &str = "[service.demo]\nroute = \"/{version}\"\n";

fn sha256_of(text: &str) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(text.as_bytes()).into())
}

/// `v0.1`: one release now, one from height 100 on.
fn document(now: &Source, later: &Source) -> String {
    let artifact = |source: &Source, bytes: &str| serde_json::json!({PLATFORM: {"urls": [source.url()], "sha256": sha256_of(bytes)}});
    let releases = serde_json::json!([
        {"artifacts": artifact(now, "now")},
        {"activate": {"height": 100}, "artifacts": artifact(later, "later")},
    ]);
    serde_json::json!({"schema": 1, "revision": 1, "services": {"demo": {"versions": [
        {"name": "v0.1", "releases": releases},
    ]}}})
    .to_string()
}

#[tokio::test]
async fn a_release_to_come_is_in_the_store_before_its_height_and_its_failure_is_shown() {
    let (_guard, path) = folder();
    let (now, later) = (Source::with("now").await, Source::with("something else").await);
    std::fs::write(path.join("c.json"), document(&now, &later)).unwrap();
    let config = configured_with(&path, &format!("file:{path}/c.json"), "", SERVICE);
    let store = Arc::new(Store::open(path.join("store").as_std_path(), true, config.catalog.url_rules()).unwrap());
    let (views, handle) = open(&config, Clock::start()).unwrap();
    let entries: BTreeMap<ServiceName, Option<String>> = BTreeMap::new();
    let task = tokio::spawn(stage(views.clone(), store.clone(), entries, handle.staging()));
    let state = || handle.report().0.slots.first().and_then(|slot| Some(slot.staged.first()?.state.clone()));
    let until = async |is: &dyn Fn(&StagedState) -> bool| {
        let waiting = async {
            while !state().as_ref().is_some_and(is) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(90), waiting).await;
        assert!(came.is_ok(), "{:?}", state());
    };
    until(&|state| matches!(state, StagedState::Failed { detail } if detail.contains("expected"))).await;
    let text = serde_json::to_value(handle.report().0).unwrap();
    assert_eq!(text["slots"][0]["staged"][0]["height"], 100, "{text}");
    // Another document names where the bytes are.
    let good = Source::with("later").await;
    let mended = document(&now, &good).replace("\"revision\":1", "\"revision\":2");
    std::fs::write(path.join("c.json"), mended).unwrap();
    until(&|state| *state == StagedState::Fetched).await;
    let is_there = |bytes: &str| path.join("store").join(sha256_of(bytes).to_string()).exists();
    assert!(is_there("later"));
    assert!(!is_there("now"), "what is in effect is its slot's to fetch");
    task.abort();
}
