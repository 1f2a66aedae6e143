//! The bytes of a catalog source, in every format: no document panics, each refusal has a text, and a document
//! that was read is followed or refused whole. A line of three dashes parts two documents that follow one another.

use std::collections::BTreeMap;

use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{
    Desired, ParseContext, Removals, ServiceShape, Services, Snapshot, Tracker, UrlRules, check, doubts, parse,
    parse_anywhere, read_batch, read_height, read_info, read_plan,
};

/// Panics where that does not hold. Whether any of it was read.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let (Ok(demo), Ok(node)) = (ServiceName::new("demo"), ServiceName::new("node")) else { return false };
    let services = BTreeMap::from([
        (demo.clone(), ServiceShape::Versioned { first_segment: true }),
        (node.clone(), ServiceShape::Single),
    ]);
    let parted = bytes.windows(5).position(|line| line == b"\n---\n");
    let (first, second) = parted.map_or((bytes, bytes), |at| (&bytes[..at], &bytes[at + 5..]));
    let mut read = false;
    for service in [demo, node] {
        let context = ParseContext {
            service: Some(service),
            platform: "linux/amd64".to_owned(),
            urls: UrlRules { file: true, ..UrlRules::default() },
            services: Services::Configured(services.clone()),
        };
        read |= follow(&context, &[first, second]);
        anywhere(&context, first);
    }
    read |= read_plan(bytes).is_ok() | read_batch(bytes).is_ok() | read_height(bytes).is_ok();
    if let Some(snapshot) = Snapshot::of_document(bytes) {
        let again = snapshot.to_document().ok().and_then(|document| Snapshot::of_document(&document));
        assert_eq!(again, Some(snapshot), "a snapshot reads back as another");
    }
    read | std::str::from_utf8(bytes).is_ok_and(|text| read_info(text).is_ok())
}

/// Without a host a document is refused for the same reason, and has the same slots.
fn anywhere(context: &ParseContext, bytes: &[u8]) {
    let here = parse(bytes, context);
    match (parse_anywhere(bytes, context.service.clone(), &context.platform), here) {
        (Ok(document), Ok(here)) => {
            assert_eq!(document.revision, here.revision);
            assert!(document.services.keys().eq(here.services.keys()), "other services");
            assert!(doubts(&document).iter().all(|doubt| !doubt.is_empty()));
            let followed = Tracker::new(Removals::Follow, true);
            let checked = check(document, &followed, &Desired::default(), Tick(0));
            assert!(checked.is_ok(), "a first document is refused: {checked:?}");
        }
        (Err(error), Err(here)) => assert_eq!(error, here),
        (document, here) => panic!("{document:?}, and on a host {here:?}"),
    }
}

fn follow(context: &ParseContext, documents: &[&[u8]]) -> bool {
    let mut tracker = Tracker::new(Removals::Follow, false);
    let mut read = false;
    for (at, bytes) in (0u64..).zip(documents) {
        match parse(bytes, context) {
            Ok(document) => {
                read = true;
                if let Ok(next) = tracker.observe(document, Tick(at * 30_000)) {
                    assert!(next.revision() >= tracker.revision(), "the revision went back");
                    assert!(next.height() >= tracker.height(), "the height went back");
                    tracker = next.at_height(Some(at * 1_000));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty(), "a refusal without a text"),
        }
        for (slot, intent) in tracker.desired().slots {
            assert!(intent.artifact.is_some() || intent.blocked.is_some(), "{slot}: neither wanted nor blocked");
            assert!(intent.staged.iter().all(|staged| Some(staged.height) > tracker.height()), "{slot}: late");
        }
    }
    read
}
