//! Following a source, from its bytes to what is in force; each kind of source has a file of its own.

mod cosmovisor;
mod heights;
mod judge;
mod overrides;
mod staging;
mod trust;

use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use supervisor_protocol::{Reason, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use versiond_core::catalog::Artifact;

use super::height::UnknownHeight;
use super::*;
use crate::config::{self, Env};

/// A source on loopback, whose answer can be changed, and which can be stopped and started again.
struct Source {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Source {
    async fn start(address: &str, answer: Arc<Mutex<String>>) -> Source {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = answer.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0u8; 2048];
                if socket.read(&mut head).await.is_err() {
                    continue;
                }
                let answer = shared.lock().clone();
                socket.write_all(answer.as_bytes()).await.ok();
                socket.shutdown().await.ok();
            }
        });
        Source { address, answer, task }
    }

    async fn with(body: &str) -> Source {
        Source::start("127.0.0.1:0", Arc::new(Mutex::new(ok(body)))).await
    }

    fn say(&self, answer: String) {
        *self.answer.lock() = answer;
    }

    fn url(&self) -> String {
        format!("http://{}/versions", self.address)
    }

    async fn stop(self) -> (SocketAddr, Arc<Mutex<String>>) {
        self.task.abort();
        self.task.await.unwrap_err();
        (self.address, self.answer)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn versions(revision: u64, names: &[(&str, u8)]) -> String {
    let versions: Vec<_> = names
        .iter()
        .map(|(name, of)| {
            let artifact = serde_json::json!({"urls": ["https://a.example/a"], "sha256": hash(*of)});
            serde_json::json!({"name": name, "releases": [{"artifacts": {PLATFORM: artifact}}]})
        })
        .collect();
    serde_json::json!({"schema": 1, "revision": revision, "services": {"demo": {"versions": versions}}}).to_string()
}

fn observed(names: &[(&str, u8)]) -> String {
    let versions: Vec<_> = names
        .iter()
        .map(|(name, of)| serde_json::json!({"name": name, "binary": "https://a.example/a", "sha256": hash(*of)}))
        .collect();
    serde_json::json!({ "versions": versions }).to_string()
}

fn hash(of: u8) -> Sha256 {
    Sha256([of; 32])
}

fn configured(folder: &Utf8Path, source: &str) -> Config {
    configured_with(folder, source, "", "[service.demo]\nroute = \"/{version}\"\n")
}

/// With more keys of `[catalog]`, and with what follows it.
fn configured_with(folder: &Utf8Path, source: &str, more: &str, rest: &str) -> Config {
    config::load(Some(&write_settings(folder, source, more, rest)), &Env::new()).unwrap()
}

fn write_settings(folder: &Utf8Path, source: &str, more: &str, rest: &str) -> Utf8PathBuf {
    let file = folder.join("versiond.toml");
    let text = format!(
        "[host]\nid = \"h\"\nstate_dir = \"{folder}/state\"\n[catalog]\nsource = \"{source}\"\npoll = \"20ms\"\n{more}\n{rest}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn folder() -> (TempDir, Utf8PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

fn wanted(view: &CatalogView) -> Vec<(String, u8)> {
    let artifact = |artifact: &Option<Artifact>| artifact.as_ref().map_or(0, |artifact| artifact.sha256.0[0]);
    view.desired.slots.iter().map(|(slot, intent)| (slot.name.to_string(), artifact(&intent.artifact))).collect()
}

fn code(view: &CatalogView) -> Option<&'static str> {
    view.status.reason.as_ref().map(Reason::code)
}

/// Waits for a view with this property, and shows the last one when it does not come.
async fn until(
    views: &mut watch::Receiver<CatalogView>,
    what: &str,
    has: impl FnMut(&CatalogView) -> bool,
) -> CatalogView {
    let found = tokio::time::timeout(Duration::from_secs(90), views.wait_for(has)).await.is_ok();
    let view = views.borrow().clone();
    assert!(found, "{what}; the last view was {view:?}");
    view
}

#[tokio::test]
async fn f25_a_lost_source_or_a_bad_document_keeps_what_is_in_force() {
    let (_guard, path) = folder();
    let source = Source::with(&versions(1, &[("v0.1", 1), ("v0.2", 2)])).await;
    let mut views = start(&configured(&path, &source.url()), Clock::start()).unwrap();
    assert!(!views.borrow().is_known);
    let both = vec![("v0.1".to_owned(), 1), ("v0.2".to_owned(), 2)];
    let view = until(&mut views, "the first document", |view| view.is_known).await;
    assert_eq!((wanted(&view), view.status.revision, code(&view)), (both.clone(), Some(1), None));

    let bad = [
        ok("{\"schema\":1,"),
        ok("{\"schema\":3}"),
        ok(&versions(2, &[])),
        ok(&versions(0, &[("v0.9", 9)])),
        ok(&versions(1, &[("v0.9", 9)])),
        ok(&versions(5_000_000, &[("v0.9", 9)])),
        ok(&observed(&[("v0.9", 9)])),
        ok(&" ".repeat((1 << 20) + 1)),
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: http://a.example/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "nonsense".to_owned(),
    ];
    for answer in bad {
        source.say(answer.clone());
        until(&mut views, &answer[..answer.len().min(60)], |view| code(view) == Some("catalog_unreachable")).await;
        let view = views.borrow().clone();
        assert_eq!((wanted(&view), view.status.revision), (both.clone(), Some(1)));
        source.say(ok(&versions(1, &[("v0.1", 1), ("v0.2", 2)])));
        until(&mut views, "a good document again", |view| code(view).is_none()).await;
    }
    let (address, answer) = source.stop().await;
    let view = until(&mut views, "a silent source", |view| code(view) == Some("catalog_unreachable")).await;
    assert_eq!(wanted(&view), both);
    *answer.lock() = ok(&versions(2, &[("v0.2", 3)]));
    let _source = Source::start(&address.to_string(), answer).await;
    let view = until(&mut views, "the source is back", |view| view.status.revision == Some(2)).await;
    assert_eq!(wanted(&view), [("v0.2".to_owned(), 3)]);
}

#[tokio::test]
async fn a_cold_start_with_the_source_down_begins_from_what_was_kept() {
    let (_guard, path) = folder();
    let source = Source::with(&versions(7, &[("v0.1", 1)])).await;
    let config = configured(&path, &source.url());
    let mut views = start(&config, Clock::start()).unwrap();
    until(&mut views, "the first document", |view| view.is_known).await;
    drop(views);
    let (address, answer) = source.stop().await;

    let mut views = start(&config, Clock::start()).unwrap();
    let view = views.borrow().clone();
    assert_eq!((view.is_known, wanted(&view), view.status.revision), (true, vec![("v0.1".to_owned(), 1)], Some(7)));
    assert_eq!(view.read_at, None);
    until(&mut views, "the source is down", |view| code(view) == Some("catalog_unreachable")).await;
    // And an earlier revision is still refused.
    *answer.lock() = ok(&versions(6, &[("v0.2", 2)]));
    let source = Source::start(&address.to_string(), answer).await;
    views.mark_unchanged();
    for _ in 0..3 {
        views.changed().await.unwrap();
        assert_eq!(wanted(&views.borrow_and_update()), [("v0.1".to_owned(), 1)]);
    }
    source.say(ok(&versions(8, &[("v0.2", 2)])));
    until(&mut views, "a later one", |view| wanted(view) == [("v0.2".to_owned(), 2)]).await;
}

#[tokio::test]
async fn a_cold_start_without_anything_says_that_nothing_is_known() {
    let (_guard, path) = folder();
    let source = format!("file:{path}/catalog-source.json");
    let mut views = start(&configured(&path, &source), Clock::start()).unwrap();
    let view = until(&mut views, "a reading", |view| {
        matches!(&view.status.reason, Some(Reason::NoCatalog { detail }) if detail.contains("catalog-source.json"))
    })
    .await;
    assert!(!view.is_known);
    std::fs::write(path.join("catalog-source.json"), observed(&[("v0.1", 1)])).unwrap();
    let view = until(&mut views, "the file is there", |view| view.is_known).await;
    assert_eq!(wanted(&view), [("v0.1".to_owned(), 1)]);
}

fn take(follower: &mut Follower, body: &str, seconds: u64) -> CatalogView {
    follower.take(Ok(body.as_bytes().to_vec()), Err(UnknownHeight::NoSource), Tick(seconds * 1_000));
    follower.view(Tick(seconds * 1_000))
}

#[test]
fn a_removal_is_believed_after_a_minute_and_failures_between_do_not_count() {
    let (_guard, path) = folder();
    let config = configured(&path, "http://127.0.0.1:9/versions");
    let mut follower = Follower::open(&config);
    take(&mut follower, &observed(&[("v0.1", 1), ("v0.2", 2)]), 0);
    let without = observed(&[("v0.2", 2)]);
    take(&mut follower, &without, 30);
    let silent = Err(SourceError::Timeout { place: "x".to_owned() });
    follower.take(silent, Err(UnknownHeight::NoSource), Tick(60_000));
    take(&mut follower, "{\"versions\":[]}", 70);
    let view = take(&mut follower, &without, 91);
    assert_eq!(wanted(&view).len(), 2);
    // A restart in between forgets the count, and not the name.
    let mut restarted = Follower::open(&config);
    assert_eq!(wanted(&restarted.view(Tick::ZERO)).len(), 2);
    assert_eq!(wanted(&take(&mut restarted, &without, 0)).len(), 2);
    assert_eq!(wanted(&take(&mut follower, &without, 92)), [("v0.2".to_owned(), 2)]);
    assert_eq!(wanted(&Follower::open(&config).view(Tick::ZERO)), [("v0.2".to_owned(), 2)]);
}

/// F45: what cannot be kept is not acted on; F44: what is kept is the old file or the new one.
#[test]
fn f45_a_document_that_cannot_be_kept_is_not_published_and_is_taken_later() {
    let (_guard, path) = folder();
    let config = configured(&path, "http://127.0.0.1:9/versions");
    let mut follower = Follower::open(&config);
    take(&mut follower, &versions(1, &[("v0.1", 1)]), 0);
    // Permissions do not bind root: the place of the temporary file is taken instead.
    let kept = path.join("state/catalog.json");
    let before = std::fs::read(&kept).unwrap();
    std::fs::create_dir_all(path.join("state/catalog.json.tmp/full")).unwrap();
    let view = take(&mut follower, &versions(2, &[("v0.1", 2)]), 1);
    assert_eq!((code(&view), wanted(&view)), (Some("ledger_unwritable"), vec![("v0.1".to_owned(), 1)]));
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    // Reading the same document again needs no disk.
    let view = take(&mut follower, &versions(1, &[("v0.1", 1)]), 2);
    assert_eq!(code(&view), None);
    std::fs::remove_dir_all(path.join("state/catalog.json.tmp")).unwrap();
    let view = take(&mut follower, &versions(2, &[("v0.1", 2)]), 3);
    assert_eq!((code(&view), wanted(&view)), (None, vec![("v0.1".to_owned(), 2)]));
    let restored = Follower::open(&config).view(Tick::ZERO);
    assert_eq!((wanted(&restored), restored.status.revision), (vec![("v0.1".to_owned(), 2)], Some(2)));
}

/// F44: a half-written file beside the kept one, or a damaged one, stops no start.
#[test]
fn f44_a_damaged_file_is_as_good_as_none() {
    let (_guard, path) = folder();
    let config = configured(&path, "http://127.0.0.1:9/versions");
    let mut follower = Follower::open(&config);
    take(&mut follower, &versions(1, &[("v0.1", 1)]), 0);
    std::fs::write(path.join("state/catalog.json.tmp"), b"{\"schema\"").unwrap();
    assert_eq!(wanted(&Follower::open(&config).view(Tick::ZERO)), [("v0.1".to_owned(), 1)]);
    std::fs::write(path.join("state/catalog.json"), b"{\"schema\"").unwrap();
    let mut damaged = Follower::open(&config);
    assert!(!damaged.view(Tick::ZERO).is_known);
    assert_eq!(wanted(&take(&mut damaged, &versions(1, &[("v0.1", 1)]), 0)), [("v0.1".to_owned(), 1)]);
    assert_eq!(wanted(&Follower::open(&config).view(Tick::ZERO)), [("v0.1".to_owned(), 1)]);
}

#[test]
fn another_source_s_revisions_are_its_own() {
    let (_guard, path) = folder();
    let mut follower = Follower::open(&configured(&path, "http://127.0.0.1:9/versions"));
    take(&mut follower, &versions(100, &[("v0.1", 1), ("v0.2", 2)]), 0);
    let mut moved = Follower::open(&configured(&path, "http://127.0.0.1:9/elsewhere"));
    assert_eq!(wanted(&moved.view(Tick::ZERO)).len(), 2);
    let view = take(&mut moved, &versions(1, &[("v0.2", 2)]), 0);
    assert_eq!((wanted(&view), view.status.revision), (vec![("v0.2".to_owned(), 2)], Some(1)));
}

/// F58: what a name stands for comes and goes; what is in force stays.
#[tokio::test]
async fn f58_a_name_that_gives_nothing_or_another_order_changes_nothing() {
    let (_guard, path) = folder();
    let source = Source::with(&versions(1, &[("v0.1", 1)])).await;
    let url = format!("http://localhost:{}/versions", source.address.port());
    let [here, nobody] = [1, 2].map(|last| std::net::IpAddr::from([127, 0, 0, last]));
    let answers = [vec![here, here], vec![], vec![nobody, here], vec![here, nobody]];
    let left = Mutex::new(answers.to_vec());
    let names: address::Names = Arc::new(move |_| {
        let found = left.lock().remove(0);
        Box::pin(async move { Ok(found) })
    });
    let config = configured(&path, &url);
    let wait = Duration::from_secs(60);
    let client = http::Client::with_names(config.catalog.url_rules(), names, wait, Some(wait)).unwrap();
    let mut follower = Follower::open(&config);
    for found in answers {
        let reading = source::signed(&client, &config.catalog.source, None).await;
        follower.take(reading, Err(UnknownHeight::NoSource), Tick(1));
        let view = follower.view(Tick(1));
        let expected = found.is_empty().then_some("catalog_unreachable");
        assert_eq!((code(&view), wanted(&view)), (expected, vec![("v0.1".to_owned(), 1)]), "{found:?}");
    }
}
