//! Heights: where they are read, what they bring, and that losing them brings nothing.

use super::*;

/// `v0.1` is 1 from the beginning, 2 from height 100 on.
fn two_releases() -> String {
    let artifact = |of: u8| serde_json::json!({PLATFORM: {"urls": ["https://a.example/a"], "sha256": hash(of)}});
    let releases = serde_json::json!([
        {"artifacts": artifact(1)},
        {"activate": {"height": 100}, "artifacts": artifact(2)},
    ]);
    serde_json::json!({"schema": 1, "revision": 1, "services": {"demo": {"versions": [
        {"name": "v0.1", "releases": releases},
    ]}}})
    .to_string()
}

fn status(height: u64, catching_up: bool) -> String {
    ok(&serde_json::json!({"result": {"sync_info": {
        "latest_block_height": height.to_string(), "catching_up": catching_up,
    }}})
    .to_string())
}

fn is(view: &CatalogView, of: u8) -> bool {
    wanted(view) == [("v0.1".to_owned(), of)]
}

#[tokio::test]
async fn a_node_s_height_brings_the_next_release_and_its_loss_takes_nothing_back() {
    let (_guard, path) = folder();
    std::fs::write(path.join("c.json"), two_releases()).unwrap();
    let node = Source::start("127.0.0.1:0", Arc::new(Mutex::new(status(150, true)))).await;
    let height = format!("height = \"http://{}/status\"", node.address);
    let source = format!("file:{path}/c.json");
    let config = configured_with(&path, &source, &height, "[service.demo]\nroute = \"/{version}\"\n");
    let mut views = start(&config, Clock::start()).unwrap();
    let view = until(&mut views, "the first reading", |view| view.is_known).await;
    // A node that is behind the others tells nothing of the chain.
    assert!(is(&view, 1) && view.height_unknown.as_ref().unwrap().contains("catching up"), "{view:?}");
    assert_eq!(view.desired.height, None);

    node.say(status(99, false));
    let view = until(&mut views, "height 99", |view| view.desired.height == Some(99)).await;
    let intent = view.desired.slots.values().next().unwrap();
    assert_eq!(intent.blocked, Some(Reason::NotYetActive { height: Some(99), activates_at: 100 }));
    assert_eq!(intent.staged.len(), 1);
    node.say(status(100, false));
    until(&mut views, "height 100", |view| is(view, 2)).await;
    node.say(status(5, false));
    views.mark_unchanged();
    for _ in 0..3 {
        views.changed().await.unwrap();
        assert!(is(&views.borrow_and_update(), 2));
    }
    node.stop().await;
    let view = until(&mut views, "the node is gone", |view| view.height_unknown.is_some()).await;
    assert!(is(&view, 2));
    // Nor does a restart, with the node and the source gone.
    drop(views);
    std::fs::remove_file(path.join("c.json")).unwrap();
    let view = start(&config, Clock::start()).unwrap().borrow().clone();
    assert!(is(&view, 2) && view.desired.height >= Some(100), "{view:?}");
}

#[test]
fn a_height_that_cannot_be_kept_is_not_acted_on_and_one_that_brings_nothing_is_not_written() {
    let (_guard, path) = folder();
    let mut follower = Follower::open(&configured(&path, "http://127.0.0.1:9/versions"));
    let mut at = |height: u64| {
        follower.take(Ok(two_releases().into_bytes()), Ok(height), Tick(1));
        follower.view(Tick(1))
    };
    assert!(is(&at(1), 1));
    let kept = path.join("state/catalog.json");
    let before = std::fs::metadata(&kept).unwrap().modified().unwrap();
    assert!(is(&at(50), 1));
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), before);
    std::fs::create_dir_all(path.join("state/catalog.json.tmp/full")).unwrap();
    let view = at(100);
    assert!(is(&view, 1) && code(&view) == Some("ledger_unwritable"), "{view:?}");
    std::fs::remove_dir_all(path.join("state/catalog.json.tmp")).unwrap();
    assert!(is(&at(100), 2));
    assert!(is(&Follower::open(&configured(&path, "http://127.0.0.1:9/versions")).view(Tick(0)), 2));
}
