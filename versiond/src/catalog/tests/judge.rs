//! What is asked without changing anything, and the operator's word that a source is to be read again.

use supervisor_protocol::catalog::{Change, CheckDocument, CheckRequest};

use super::*;
use crate::catalog::judge::CheckError;

fn document(text: &str, against: bool) -> CheckRequest {
    CheckRequest { document: CheckDocument::Text { text: text.to_owned(), signature: None }, against }
}

/// By name: what becomes of it, and the byte of the hash afterwards.
async fn checked(handle: &CatalogHandle, request: CheckRequest) -> Result<Vec<(String, Change, u8)>, CheckError> {
    let check = handle.check(request).await?;
    let slots = check.slots.iter().map(|slot| {
        let of = slot.after.sha256.map_or(0, |sha256| sha256.0[0]);
        (slot.after.slot.name.to_string(), slot.change, of)
    });
    Ok(slots.collect())
}

#[tokio::test]
async fn a_document_is_checked_against_what_is_in_force_and_changes_nothing() {
    let (_guard, path) = folder();
    let file = path.join("c.json");
    std::fs::write(&file, versions(5, &[("v0.1", 1), ("v0.2", 2), ("v0.3", 3)])).unwrap();
    let config = configured(&path, &format!("file:{file}"));
    let (mut views, handle) = open(&config, Clock::start()).unwrap();
    until(&mut views, "the first document", |view| view.is_known).await;
    let next = versions(6, &[("v0.1", 1), ("v0.2", 9), ("v0.4", 4)]);
    let found = checked(&handle, document(&next, true)).await.unwrap();
    let expected = [
        ("v0.1", Change::Unchanged, 1),
        ("v0.2", Change::Swap, 9),
        ("v0.3", Change::Remove, 0),
        ("v0.4", Change::Start, 4),
    ];
    assert_eq!(found, expected.map(|(name, change, of)| (name.to_owned(), change, of)));
    let first = checked(&handle, document(&versions(1, &[("v0.9", 9)]), false)).await.unwrap();
    assert_eq!(first, [("v0.9".to_owned(), Change::Start, 9)]);
    for (text, against, code) in [
        (versions(4, &[("v0.1", 1)]), true, "refused_document"),
        (versions(6, &[]), true, "refused_document"),
        ("{\"schema\":1".to_owned(), false, "bad_document"),
        ("{\"schema\":1,\"services\":{\"demo\":{}}}".to_owned(), false, "bad_document"),
    ] {
        let error = checked(&handle, document(&text, against)).await.unwrap_err();
        assert_eq!(error.code(), code, "{}", config::chain(&error));
    }
    let place = checked(&handle, document("{\"schema\":1,\n\"services\":{\"demo\":{}}}", false)).await.unwrap_err();
    assert!(config::chain(&place).contains("services.demo.versions: missing"), "{}", config::chain(&place));
    let at = |url: &str| CheckRequest { document: CheckDocument::Url { url: url.to_owned() }, against: true };
    std::fs::write(path.join("next.json"), &next).unwrap();
    assert_eq!(checked(&handle, at(&format!("file:{path}/next.json"))).await.unwrap(), found);
    for url in ["ftp://a.example", "file:/nonexistent", "https://169.254.169.254/", "cosmovisor:/home"] {
        assert_eq!(checked(&handle, at(url)).await.unwrap_err().code(), "unreadable_document", "{url}");
    }
    let (report, kept) = handle.report();
    assert_eq!((report.status.revision, report.origin, report.slots.len()), (Some(5), CatalogOrigin::Read, 3));
    assert_eq!(kept.unwrap()["revision"], 5);
}

/// F70: one document with an absurd revision locks nobody out for good.
#[tokio::test]
async fn f70_an_operator_takes_the_next_document_as_a_first_one() {
    let (_guard, path) = folder();
    let file = path.join("c.json");
    std::fs::write(&file, versions(u64::MAX, &[("v0.1", 1)])).unwrap();
    let config = configured(&path, &format!("file:{file}"));
    let (mut views, handle) = open(&config, Clock::start()).unwrap();
    until(&mut views, "the absurd one", |view| view.status.revision == Some(u64::MAX)).await;
    std::fs::write(&file, versions(2, &[("v0.1", 2)])).unwrap();
    let refused = handle.accept(false).await.unwrap();
    assert!(matches!(&refused, Some(Reason::CatalogUnreachable { detail }) if detail.contains("lower")), "{refused:?}");
    assert_eq!(handle.accept(true).await.unwrap(), None);
    let (report, _) = handle.report();
    assert_eq!((report.status.revision, report.reset), (Some(2), false));
    assert_eq!(wanted(&views.borrow()), [("v0.1".to_owned(), 2)]);
    // While the source is down the word waits for it, and what is in force stays.
    std::fs::remove_file(&file).unwrap();
    assert!(handle.accept(true).await.unwrap().is_some());
    assert_eq!((handle.report().0.reset, wanted(&views.borrow())), (true, vec![("v0.1".to_owned(), 2)]));
    std::fs::write(&file, versions(1, &[("v0.1", 3)])).unwrap();
    until(&mut views, "the source is back", |view| view.status.revision == Some(1)).await;
    drop(views);
    let restarted = Follower::open(&config);
    assert_eq!(wanted(&restarted.view(Tick::ZERO)), [("v0.1".to_owned(), 3)]);
}

/// F11: a name that comes back was never two: what was believed to be gone is one intent again.
#[tokio::test]
async fn f11_a_restored_name_is_one_intent_again() {
    let (_guard, path) = folder();
    let mut follower = Follower::open(&configured(&path, "http://127.0.0.1:9/versions"));
    take(&mut follower, &versions(1, &[("v0.1", 1), ("v0.2", 2)]), 0);
    let gone = take(&mut follower, &versions(2, &[("v0.2", 2)]), 1);
    assert_eq!(wanted(&gone), [("v0.2".to_owned(), 2)]);
    let back = take(&mut follower, &versions(3, &[("v0.1", 1), ("v0.2", 2)]), 2);
    assert_eq!(wanted(&back), [("v0.1".to_owned(), 1), ("v0.2".to_owned(), 2)]);
}
