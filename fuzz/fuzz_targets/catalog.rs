//! The bytes of a catalog source: no document panics, each refusal has a text, and a document that was read
//! is followed or refused whole.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{ParseContext, Removals, ServiceShape, Tracker, UrlRules, parse};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let Ok(service) = ServiceName::new("demo") else { return };
    let context = ParseContext {
        service: Some(service.clone()),
        platform: "linux/amd64".to_owned(),
        urls: UrlRules::default(),
        services: BTreeMap::from([(service, ServiceShape::Versioned { first_segment: true })]),
    };
    let mut tracker = Tracker::new(Removals::Follow, false);
    for (at, bytes) in [input.0, input.1].iter().enumerate() {
        match parse(bytes, &context) {
            Ok(document) => {
                if let Ok(next) = tracker.observe(document, Tick(at as u64 * 30_000)) {
                    assert!(next.revision() >= tracker.revision(), "the revision went back");
                    tracker = next;
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        for (slot, intent) in tracker.desired().slots {
            assert!(intent.artifact.is_some() || intent.blocked.is_some(), "{slot}: neither wanted nor blocked");
        }
    }
});
