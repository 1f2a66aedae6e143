//! The bytes of a catalog source, in every format: no document panics, each refusal has a text, and a document
//! that was read is followed or refused whole. A line of three dashes parts two documents that follow one another.

use std::collections::BTreeMap;

use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{
    ParseContext, Removals, ServiceShape, Snapshot, Tracker, UrlRules, parse, read_batch, read_height, read_info,
    read_plan,
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
            services: services.clone(),
        };
        read |= follow(&context, &[first, second]);
    }
    read |= read_plan(bytes).is_ok() | read_batch(bytes).is_ok() | read_height(bytes).is_ok();
    if let Some(snapshot) = Snapshot::of_document(bytes) {
        let again = snapshot.to_document().ok().and_then(|document| Snapshot::of_document(&document));
        assert_eq!(again, Some(snapshot), "a snapshot reads back as another");
    }
    read | std::str::from_utf8(bytes).is_ok_and(|text| read_info(text).is_ok())
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
