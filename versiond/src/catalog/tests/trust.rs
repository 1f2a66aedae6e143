//! Signatures: what is signed by the key is taken, and nothing else. The key, the documents and the
//! signatures beside this file were made for these tests.

use super::*;
use crate::config::TrustKey;

const KEY: &str = include_str!("signed/key.pub");
const FIRST: &str = include_str!("signed/1.json");
const FIRST_SIGNED: &str = include_str!("signed/1.json.minisig");
const FIRST_BY_A_STRANGER: &str = include_str!("signed/1.json.stranger.minisig");
const SECOND: &str = include_str!("signed/2.json");
const SECOND_SIGNED: &str = include_str!("signed/2.json.minisig");

fn trusting(folder: &Utf8Path, source: &str) -> Config {
    let key = format!("trust_key = \"{}\"", KEY.trim());
    configured_with(folder, source, &key, "[service.demo]\nroute = \"/{version}\"\n")
}

#[test]
fn only_the_key_s_own_signature_over_these_very_bytes_counts() {
    let key: TrustKey = KEY.trim().parse().unwrap();
    let verify = |document: &str, signature: &str| key.verify(document.as_bytes(), signature.as_bytes());
    verify(FIRST, FIRST_SIGNED).unwrap();
    verify(SECOND, SECOND_SIGNED).unwrap();
    for (document, signature) in [
        (FIRST, SECOND_SIGNED),
        (FIRST, FIRST_BY_A_STRANGER),
        (&FIRST.replace("v0.1", "v0.9"), FIRST_SIGNED),
        (&format!("{FIRST}\n"), FIRST_SIGNED),
        ("", FIRST_SIGNED),
        (FIRST, ""),
        (FIRST, "untrusted comment: nothing"),
        (FIRST, &FIRST_SIGNED.replace("a catalog of", "another of")),
    ] {
        assert!(verify(document, signature).is_err(), "{document:?} {signature:?}");
    }
}

fn untrusted(view: &CatalogView) -> bool {
    code(view) == Some("untrusted")
}

#[tokio::test]
async fn a_file_without_its_signature_or_with_a_wrong_one_changes_nothing() {
    let (_guard, path) = folder();
    let (document, signature) = (path.join("c.json"), path.join("c.json.minisig"));
    std::fs::write(&document, FIRST).unwrap();
    let config = trusting(&path, &format!("file:{document}"));
    let mut views = start(&config, Clock::start()).unwrap();
    let view = until(&mut views, "no signature", untrusted).await;
    assert!(!view.is_known);
    std::fs::write(&signature, FIRST_BY_A_STRANGER).unwrap();
    views.mark_unchanged();
    views.changed().await.unwrap();
    assert!(untrusted(&views.borrow()));
    std::fs::write(&signature, FIRST_SIGNED).unwrap();
    let view = until(&mut views, "signed", |view| view.is_known).await;
    assert_eq!((wanted(&view), code(&view)), (vec![("v0.1".to_owned(), 1)], None));
    // What is in force stays while the next one is not signed.
    std::fs::write(&document, SECOND).unwrap();
    let view = until(&mut views, "another document", untrusted).await;
    assert_eq!(wanted(&view), [("v0.1".to_owned(), 1)]);
    std::fs::remove_file(&signature).unwrap();
    std::fs::write(&signature, SECOND_SIGNED).unwrap();
    let view = until(&mut views, "signed again", |view| view.status.revision == Some(2)).await;
    assert_eq!(wanted(&view), [("v0.2".to_owned(), 2)]);
}

#[tokio::test]
async fn an_address_has_its_signature_beside_it() {
    let (_guard, path) = folder();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0u8; 2048];
            let Ok(read) = socket.read(&mut head).await else { continue };
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = if target.contains(".minisig") { FIRST_SIGNED } else { FIRST };
            log.lock().push(target);
            socket.write_all(ok(body).as_bytes()).await.ok();
        }
    });
    let config = trusting(&path, &format!("http://{address}/versions?net=main"));
    let mut views = start(&config, Clock::start()).unwrap();
    until(&mut views, "signed", |view| view.is_known).await;
    let asked = asked.lock().clone();
    assert_eq!(&asked[..2], ["/versions?net=main", "/versions.minisig?net=main"]);
}

/// What was kept without a signature, or by another key, is what runs, and nobody's revision.
#[tokio::test]
async fn what_was_kept_before_there_was_a_key_runs_on_and_binds_no_revision() {
    let (_guard, path) = folder();
    let document = path.join("c.json");
    std::fs::write(&document, versions(9, &[("v0.1", 7)])).unwrap();
    let source = format!("file:{document}");
    let mut views = start(&configured(&path, &source), Clock::start()).unwrap();
    until(&mut views, "the first document", |view| view.is_known).await;
    drop(views);
    let config = trusting(&path, &source);
    let mut views = start(&config, Clock::start()).unwrap();
    let view = views.borrow().clone();
    assert_eq!((view.origin, view.status.revision), (CatalogOrigin::KeptOfAnother, None));
    assert_eq!(wanted(&view), [("v0.1".to_owned(), 7)]);
    std::fs::write(&document, FIRST).unwrap();
    std::fs::write(path.join("c.json.minisig"), FIRST_SIGNED).unwrap();
    let view = until(&mut views, "signed", |view| view.origin == CatalogOrigin::Read).await;
    assert_eq!((wanted(&view), view.status.revision), (vec![("v0.1".to_owned(), 1)], Some(1)));
    drop(views);
    assert_eq!(start(&config, Clock::start()).unwrap().borrow().origin, CatalogOrigin::Kept);
}
