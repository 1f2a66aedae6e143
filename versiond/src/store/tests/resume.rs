//! What was received in part is gone on with, and never believed.

use bytes::Bytes;

use super::mirror::{Answer, Asked, Mirror};
use super::*;

/// Of some length and without a pattern that a wrong place would hide.
fn bytes() -> Vec<u8> {
    (0..900_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[..1].to_vec()).collect()
}

fn parts(bytes: &[u8], tag: Option<&'static str>, cut: usize) -> Answer {
    Answer::Parts { bytes: Bytes::copy_from_slice(bytes), tag, cut }
}

fn asked(path: &str, from: Option<usize>, if_range: Option<&str>) -> Asked {
    Asked { path: path.to_owned(), from, if_range: if_range.map(str::to_owned) }
}

/// A store over which a mirror has broken off after 600,000 bytes, and the next run of the daemon on it.
async fn interrupted(mirror: &Mirror, folder: &TempDir, tag: Option<&'static str>) -> (Store, Artifact) {
    let url = mirror.answer("/a", parts(&bytes(), tag, 600_000));
    let wanted = artifact(&bytes(), &[url]);
    get(&open(folder), &wanted, None).await.unwrap_err();
    assert_eq!(mirror.asked(), [asked("/a", None, None)]);
    (open(folder), wanted)
}

async fn assert_comes(store: &Store, wanted: &Artifact) {
    assert_eq!(std::fs::read(get(store, wanted, None).await.unwrap().path).unwrap(), bytes());
}

/// Nothing is left of an attempt that has come to its end.
fn assert_nothing_partial(folder: &TempDir) {
    assert_eq!(std::fs::read_dir(folder.path().join("store/.partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_received_survives_a_restart_and_only_the_rest_is_fetched() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, wanted) = interrupted(&mirror, &folder, Some("\"v1\"")).await;
    let statuses = store.list(&Uses::new()).await.unwrap();
    assert_eq!((statuses[0].received, statuses[0].total), (Some(600_000), Some(900_000)));
    mirror.answer("/a", parts(&bytes(), Some("\"v1\""), usize::MAX));
    let seen = Mutex::new(Vec::new());
    let progress = |received, total| seen.lock().push((received, total));
    store.ensure(&wanted, None, &progress).await.unwrap();
    assert_eq!(mirror.asked(), [asked("/a", Some(600_000), Some("\"v1\""))]);
    assert_eq!(seen.lock().first(), Some(&(600_000, Some(900_000))));
    assert_eq!(seen.lock().last(), Some(&(900_000, Some(900_000))));
    assert_comes(&store, &wanted).await;
    assert_nothing_partial(&folder);
}

#[tokio::test]
async fn another_mirror_goes_on_where_the_first_one_broke_off() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let urls = [
        mirror.answer("/a", parts(&bytes(), Some("\"v1\""), 600_000)),
        mirror.answer("/b", parts(&bytes(), Some("\"other\""), usize::MAX)),
    ];
    assert_comes(&open(&folder), &artifact(&bytes(), &urls)).await;
    assert_eq!(mirror.asked(), [asked("/a", None, None), asked("/b", Some(600_000), None)]);
}

/// A source that answers 200 to a range sends everything, and everything is taken.
#[tokio::test]
async fn an_answer_of_200_to_a_range_is_the_whole() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, wanted) = interrupted(&mirror, &folder, None).await;
    mirror.body("/a", &bytes());
    assert_comes(&store, &wanted).await;
    assert_eq!(mirror.asked(), [asked("/a", Some(600_000), None)]);
}

#[tokio::test]
async fn a_resource_that_has_changed_is_fetched_anew() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, wanted) = interrupted(&mirror, &folder, Some("\"v1\"")).await;
    mirror.answer("/a", parts(&bytes(), Some("\"v2\""), usize::MAX));
    assert_comes(&store, &wanted).await;
    assert_eq!(mirror.asked(), [asked("/a", Some(600_000), Some("\"v1\""))]);
}

/// Another length, a shorter resource, or a beginning that was never right: the same mirror is asked for
/// everything, once, and is not blamed.
#[tokio::test]
async fn a_beginning_that_does_not_fit_is_thrown_away_and_everything_fetched() {
    let mirror = Mirror::start().await;
    let partial = |folder: &TempDir, wanted: &Artifact| folder.path().join(format!("store/.partial/{}", wanted.sha256));
    let long = [bytes(), b"more".to_vec()].concat();
    for (what, first) in [("longer", long), ("shorter", bytes()[..300_000].to_vec())] {
        let folder = TempDir::new().unwrap();
        let (store, wanted) = interrupted(&mirror, &folder, None).await;
        let urls = [mirror.answer("/other", parts(&first, None, usize::MAX)), wanted.urls[0].clone()];
        mirror.answer("/a", parts(&bytes(), None, usize::MAX));
        assert_comes(&store, &Artifact { urls: urls.to_vec(), ..wanted.clone() }).await;
        let all = mirror.asked();
        assert_eq!(all[0], asked("/other", Some(600_000), None), "{what}");
        assert_eq!(all.last(), Some(&asked("/a", None, None)), "{what}");
    }
    let folder = TempDir::new().unwrap();
    let (store, wanted) = interrupted(&mirror, &folder, None).await;
    let mut wrong = std::fs::read(partial(&folder, &wanted)).unwrap();
    wrong[17] ^= 1;
    std::fs::write(partial(&folder, &wanted), wrong).unwrap();
    mirror.answer("/a", parts(&bytes(), None, usize::MAX));
    assert_comes(&store, &wanted).await;
    assert_eq!(mirror.asked(), [asked("/a", Some(600_000), None), asked("/a", None, None)]);
    assert_nothing_partial(&folder);
}

/// F18, F45: what is whole and could only not be unpacked is not fetched again.
#[tokio::test]
async fn f18_what_was_received_whole_needs_no_mirror() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, wanted) = interrupted(&mirror, &folder, None).await;
    std::fs::write(folder.path().join(format!("store/.partial/{}", wanted.sha256)), bytes()).unwrap();
    assert_comes(&store, &wanted).await;
    assert_eq!(mirror.asked(), []);
}

/// F18: over a restart a hash that would not verify is not fetched again before its pause is over, unless an
/// operator says so.
#[tokio::test]
async fn f18_a_restart_forgets_no_bytes_that_were_wrong_but_an_operator_may() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let wanted = artifact(b"these bytes", &[mirror.body("/a", b"other bytes")]);
    let store = open(&folder);
    // Enough of them for a pause that lasts through the test.
    for _ in 0..9 {
        get(&store, &wanted, None).await.unwrap_err();
        let failed = Failed {
            error: StoreError::HashMismatch { expected: wanted.sha256, found: sha256(b"other bytes") },
            mirrors: vec![(
                wanted.urls[0].clone(),
                StoreError::HashMismatch { expected: wanted.sha256, found: sha256(b"other bytes") },
            )],
        };
        store.memory.lock().remember(&wanted, failed, store.clock.now(), 0.0);
    }
    mirror.asked();
    store.write_memory();
    until(|| {
        let again = open(&folder);
        again.pause(wanted.sha256).is_some_and(|pause| pause > Duration::from_secs(200))
    })
    .await;
    let again = open(&folder);
    assert!(matches!(get(&again, &wanted, None).await, Err(StoreError::HashMismatch { .. })));
    assert_eq!(mirror.asked(), []);
    mirror.body("/a", b"these bytes");
    again.forgive(wanted.sha256);
    get(&again, &wanted, None).await.unwrap();
    assert_eq!(mirror.requests(), 1);
    until(|| open(&folder).pause(wanted.sha256).is_none()).await;
}

/// What is written beside everything else is there a moment later.
async fn until(is: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
