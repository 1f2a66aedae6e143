//! From a mirror into the store, and what may stand in the way.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;

use super::mirror::{Answer, Mirror};
use super::*;
use crate::catalog::http::FetchError;

#[tokio::test]
async fn f14_an_artifact_is_installed_once_under_its_hash_and_never_fetched_again() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let bytes = zipped(&[("README", b"hello"), ("bin/demo", b"\x7fELF program")]);
    let wanted = artifact(&bytes, &[mirror.body("/a.zip", &bytes)]);
    let store = open(&folder);
    let installed = get(&store, &wanted, Some("demo")).await.unwrap();
    assert_eq!(installed.archive_sha256, wanted.sha256);
    assert_eq!(installed.entry_sha256, sha256(b"\x7fELF program"));
    assert_eq!(std::fs::read(&installed.path).unwrap(), b"\x7fELF program");
    assert_eq!(std::fs::metadata(&installed.path).unwrap().permissions().mode() & 0o777, 0o555);
    assert_eq!(names(&folder), [wanted.sha256.to_string()]);
    // Neither by this store, whatever the URL, nor by the next one after a restart.
    let elsewhere = Artifact { urls: vec!["http://127.0.0.1:9/gone".to_owned()], ..wanted.clone() };
    assert_eq!(get(&store, &elsewhere, Some("demo")).await.unwrap(), installed);
    assert_eq!(get(&open(&folder), &elsewhere, None).await.unwrap(), installed);
    assert_eq!(mirror.requests(), 1);
    let other = get(&store, &wanted, Some("README")).await.unwrap_err();
    assert!(matches!(other, StoreError::Unusable(Unusable::OtherEntry { .. })), "{other:?}");
}

#[tokio::test]
async fn raw_programs_are_installed_as_they_are() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let wanted = artifact(b"\x7fELF raw", &[mirror.body("/raw", b"\x7fELF raw")]);
    let seen = Mutex::new(Vec::new());
    let store = open(&folder);
    let progress = |received, total| seen.lock().push((received, total));
    let installed = store.ensure(&wanted, Some("demo"), &progress).await.unwrap();
    assert_eq!(installed.entry_sha256, wanted.sha256);
    assert_eq!(seen.lock().last(), Some(&(8, Some(8))));
}

/// F18: a bad artifact costs one fetch per pause, not one per question.
#[tokio::test]
async fn f18_a_wrong_hash_is_refused_remembered_and_leaves_nothing() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let url = mirror.body("/a", b"other bytes");
    let wanted = artifact(b"these bytes", std::slice::from_ref(&url));
    let store = open(&folder);
    for _ in 0..5 {
        let Err(StoreError::HashMismatch { expected, found }) = get(&store, &wanted, None).await else { panic!() };
        assert_eq!((expected, found), (wanted.sha256, sha256(b"other bytes")));
    }
    assert_eq!(mirror.requests(), 1);
    assert_eq!(names(&folder), Vec::<String>::new());
    // Another mirror is asked at once, and the one that has the bytes wins.
    let good = mirror.body("/b", b"these bytes");
    let mended = Artifact { urls: vec![url, good], ..wanted.clone() };
    assert_eq!(get(&store, &mended, None).await.unwrap().entry_sha256, wanted.sha256);
    // The one with the wrong bytes is not asked for them again.
    assert_eq!(mirror.requests(), 2);
}

#[tokio::test]
async fn without_verification_whatever_comes_is_installed() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let wanted = artifact(b"these bytes", &[mirror.body("/a", b"other bytes")]);
    let store = Store::open(&folder.path().join("store"), false, HERE).unwrap();
    let installed = get(&store, &wanted, None).await.unwrap();
    assert_eq!(installed.entry_sha256, sha256(b"other bytes"));
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_broken_ones_passed() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let bytes = vec![7u8; 300_000];
    let urls = [
        "http://127.0.0.1:9/refused".to_owned(),
        mirror.answer("/gone", Answer::Status(410)),
        mirror.answer("/cut", Answer::Cut(Bytes::from(bytes.clone()), 200_000)),
        mirror.answer("/moved", Answer::Redirect("/here".to_owned())),
        mirror.answer("/never", Answer::Status(500)),
    ];
    mirror.body("/here", &bytes);
    let installed = get(&open(&folder), &artifact(&bytes, &urls), None).await.unwrap();
    assert_eq!(installed.entry_sha256, sha256(&bytes));
    assert_eq!(mirror.requests(), 4);
}

#[tokio::test]
async fn a_truncated_body_is_a_failed_fetch_and_leaves_nothing_that_looks_installed() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let bytes = vec![7u8; 300_000];
    let wanted = artifact(&bytes, &[mirror.answer("/cut", Answer::Cut(Bytes::from(bytes.clone()), 200_000))]);
    let error = get(&open(&folder), &wanted, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Fetch { .. }), "{error:?}");
    assert_eq!(names(&folder), Vec::<String>::new());
}

/// F70: a mirror's redirect is held to the rule of the first address.
#[tokio::test]
async fn f70_a_redirect_to_where_nothing_may_be_fetched_is_not_followed() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    mirror.answer("/loop", Answer::Redirect("/loop".to_owned()));
    for to in ["http://169.254.169.254/latest/meta-data", "http://a.example/plain", "file:///etc/hostname", "/loop"] {
        let url = mirror.answer("/moved", Answer::Redirect(to.to_owned()));
        let before = mirror.requests();
        let error = get(&open(&folder), &artifact(to.as_bytes(), &[url]), None).await.unwrap_err();
        let StoreError::Fetch { source, .. } = &error else { panic!("{to}: {error:?}") };
        let is_not_followed = match source.as_ref() {
            // An address that merely does not answer would fail as a connection.
            FetchError::Exchange(exchange) => exchange.is_redirect(),
            FetchError::Status(status) => status.as_u16() == 302,
            FetchError::Client(_)
            | FetchError::Address(_)
            | FetchError::Refused(_)
            | FetchError::TooLarge { .. }
            | FetchError::Slow { .. }
            | FetchError::File(_) => false,
        };
        assert!(is_not_followed, "{to}: {source:?}");
        assert_eq!(mirror.requests() - before, if to == "/loop" { 6 } else { 1 }, "{to}");
    }
}

/// F44: power lost at any point before the commit leaves nothing that looks installed.
#[tokio::test]
async fn f44_what_is_not_committed_is_swept_and_what_is_damaged_is_fetched_again() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let wanted = artifact(b"program", &[mirror.body("/a", b"program")]);
    let installed = get(&open(&folder), &wanted, None).await.unwrap();
    let place = installed.path.parent().unwrap().to_owned();
    // A run that died while it fetched.
    let scratch = folder.path().join("store/.tmp-0123456789abcdef");
    std::fs::create_dir(&scratch).unwrap();
    std::fs::write(scratch.join("entry"), b"half a prog").unwrap();
    let store = open(&folder);
    assert_eq!(names(&folder), [wanted.sha256.to_string()]);
    // Each of the ways in which a folder may be incomplete counts as not installed.
    let damages: [fn(&Path); 4] = [
        |place| std::fs::remove_file(place.join("artifact.json")).unwrap(),
        |place| std::fs::remove_file(place.join("entry")).unwrap(),
        |place| std::fs::write(place.join("artifact.json"), b"{\"schema\":1").unwrap(),
        |place| {
            std::fs::remove_file(place.join("entry")).unwrap();
            std::fs::write(place.join("entry"), b"progrzm").unwrap();
        },
    ];
    for (count, damage) in damages.into_iter().enumerate() {
        damage(&place);
        assert_eq!(get(&store, &wanted, None).await.unwrap(), installed);
        assert_eq!(std::fs::read(&installed.path).unwrap(), b"program");
        assert_eq!(mirror.requests(), count + 2);
    }
}

/// F45: a store that cannot be written is an error of its own, harms nothing, and recovers by itself.
#[tokio::test]
async fn f45_an_unwritable_store_keeps_what_it_has_and_recovers() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let first = artifact(b"first", &[mirror.body("/1", b"first")]);
    let second = artifact(b"second", &[mirror.body("/2", b"second")]);
    let store = open(&folder);
    let installed = get(&store, &first, None).await.unwrap();
    // Permissions do not bind root: the folder's place is taken instead.
    let (place, aside) = (folder.path().join("store"), folder.path().join("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, b"").unwrap();
    let error = get(&store, &second, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Disk { .. }), "{error:?}");
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    assert_eq!(get(&store, &first, None).await.unwrap(), installed);
    // A mirror that is added asks for another try at once; else the pause must be over.
    let second = Artifact { urls: [second.urls, vec!["http://127.0.0.1:9/".to_owned()]].concat(), ..second };
    assert_eq!(get(&store, &second, None).await.unwrap().entry_sha256, second.sha256);
}

/// F17: a slow mirror of one slot holds up no other.
#[tokio::test]
async fn f17_a_stalled_fetch_holds_up_no_other_and_can_be_dropped() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stalled = artifact(b"never", &[format!("http://{}/a", silent.local_addr().unwrap())]);
    let store = Arc::new(open(&folder));
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { get(&store, &stalled, None).await }
    });
    let (_held, _) = silent.accept().await.unwrap();
    let wanted = artifact(b"program", &[mirror.body("/a", b"program")]);
    get(&store, &wanted, None).await.unwrap();
    assert!(!waiting.is_finished());
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(names(&folder), [wanted.sha256.to_string()]);
}

#[tokio::test]
async fn one_hash_is_fetched_once_however_many_ask() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let wanted = artifact(b"program", &[mirror.body("/a", b"program")]);
    let store = open(&folder);
    let all = futures_util::future::join_all((0..8).map(|_| get(&store, &wanted, None))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(mirror.requests(), 1);
}

#[tokio::test]
async fn a_local_file_is_copied_and_verified_like_any_other_source() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("program");
    std::fs::write(&file, b"program").unwrap();
    let store = open(&folder);
    let url = format!("file:{}", file.display());
    let installed = get(&store, &artifact(b"program", std::slice::from_ref(&url)), None).await.unwrap();
    assert_eq!(std::fs::read(installed.path).unwrap(), b"program");
    assert!(matches!(get(&store, &artifact(b"other", &[url]), None).await, Err(StoreError::HashMismatch { .. })));
}
