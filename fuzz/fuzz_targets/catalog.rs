//! The bytes of a catalog source, in every format: no document panics, each refusal has a text, and a document
//! that was read is followed or refused whole. The seeds in `corpus/catalog` are replayed by a test of
//! `versiond-core` as well.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{
    ParseContext, Removals, ServiceShape, Snapshot, Tracker, UrlRules, parse, read_batch, read_height, read_info,
    read_plan,
};

fuzz_target!(|bytes: &[u8]| {
    let (Ok(demo), Ok(node)) = (ServiceName::new("demo"), ServiceName::new("node")) else { return };
    let services = BTreeMap::from([
        (demo.clone(), ServiceShape::Versioned { first_segment: true }),
        (node.clone(), ServiceShape::Single),
    ]);
    // A line of its own between two documents that follow one another.
    let halves = bytes.windows(5).position(|line| line == b"\n---\n");
    let (first, second) = halves.map_or((bytes, bytes), |at| (&bytes[..at], &bytes[at + 5..]));
    for service in [demo, node] {
        let context = ParseContext {
            service: Some(service),
            platform: "linux/amd64".to_owned(),
            urls: UrlRules { file: true, ..UrlRules::default() },
            services: services.clone(),
        };
        let mut tracker = Tracker::new(Removals::Follow, false);
        for (at, bytes) in [first, second].into_iter().enumerate() {
            match parse(bytes, &context) {
                Ok(document) => {
                    if let Ok(next) = tracker.observe(document, Tick(at as u64 * 30_000)) {
                        assert!(next.revision() >= tracker.revision(), "the revision went back");
                        assert!(next.height() >= tracker.height(), "the height went back");
                        tracker = next.at_height(Some(at as u64 * 1_000));
                    }
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            for (slot, intent) in tracker.desired().slots {
                assert!(intent.artifact.is_some() || intent.blocked.is_some(), "{slot}: neither wanted nor blocked");
                assert!(intent.staged.iter().all(|staged| Some(staged.height) > tracker.height()), "{slot}: late");
            }
        }
    }
    read_plan(bytes).ok();
    read_batch(bytes).ok();
    read_height(bytes).ok();
    if let Some(snapshot) = Snapshot::of_document(bytes) {
        assert!(snapshot.to_document().is_ok());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        read_info(text).ok();
    }
});
