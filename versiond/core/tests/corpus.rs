//! Replays the seeds of the fuzz target `catalog`, with the properties that it checks: no nightly compiler is
//! needed for that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{
    ParseContext, Removals, ServiceShape, Snapshot, Tracker, UrlRules, parse, read_batch, read_height, read_info,
    read_plan,
};

/// The documents of one seed: what comes after a line of three dashes follows what comes before it.
fn documents(seed: &[u8]) -> (&[u8], &[u8]) {
    let at = seed.windows(5).position(|line| line == b"\n---\n");
    at.map_or((seed, seed), |at| (&seed[..at], &seed[at + 5..]))
}

/// Whether any of it was read as a catalog.
fn replay(seed: &[u8]) -> bool {
    let (demo, node) = (ServiceName::new("demo").unwrap(), ServiceName::new("node").unwrap());
    let services = BTreeMap::from([
        (demo.clone(), ServiceShape::Versioned { first_segment: true }),
        (node.clone(), ServiceShape::Single),
    ]);
    let mut read = false;
    for service in [demo, node] {
        let context = ParseContext {
            service: Some(service),
            platform: "linux/amd64".to_owned(),
            urls: UrlRules { file: true, ..UrlRules::default() },
            services: services.clone(),
        };
        let mut tracker = Tracker::new(Removals::Follow, false);
        let (first, second) = documents(seed);
        for (at, bytes) in [first, second].into_iter().enumerate() {
            match parse(bytes, &context) {
                Ok(document) => {
                    read = true;
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
    read |= read_plan(seed).is_ok() | read_batch(seed).is_ok() | read_height(seed).is_ok();
    if let Some(snapshot) = Snapshot::of_document(seed) {
        assert_eq!(Snapshot::of_document(&snapshot.to_document().unwrap()), Some(snapshot));
    }
    read | std::str::from_utf8(seed).is_ok_and(|text| read_info(text).is_ok())
}

#[test]
fn every_seed_of_a_catalog_is_read_or_refused_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/catalog");
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        if replay(&seed) { read += 1 } else { refused += 1 }
    }
    // All formats are among them, and documents that nobody may take.
    assert!(read >= 12 && refused >= 3, "{read} read, {refused} refused");
}
