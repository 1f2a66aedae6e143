//! `versionctl catalog` against a daemon that answers what a test tells it to.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of the fake daemon, only what a catalog needs is used here")]
mod fake;

use fake::{Daemon, versionctl};
use serde_json::json;

fn report() -> serde_json::Value {
    json!({
        "schema": 1, "source": "https://a.example/versions", "revision": 7, "origin": "kept", "signed": true,
        "slots": [{"service": "demo", "name": "v1", "sha256": "01".repeat(32)}], "deny": [],
        "document": {"schema": 1},
    })
}

#[test]
fn the_catalog_in_force_is_shown_and_read_again() {
    let daemon = Daemon::answering(|_, _| (200, report()));
    let shown = daemon.run(&["catalog"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("revision  7") && shown.out.contains("demo/v1  01010101"), "{}", shown.out);
    assert!(daemon.run(&["catalog", "--json"]).out.contains("document"));
    assert_eq!(daemon.run(&["catalog", "accept", "--reset"]).code, Some(0));
    assert_eq!(daemon.asked(), ["GET /v1/catalog", "GET /v1/catalog", "POST /v1/catalog/accept {\"reset\":true}"]);
}

#[test]
fn a_refusal_names_the_place_and_has_its_exit_code() {
    let message = "it would be refused: services.demo.versions: missing";
    let daemon = Daemon::answering(move |_, _| (422, json!({"code": "bad_document", "message": message})));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.json");
    std::fs::write(&file, "{}").unwrap();
    let refused = daemon.run(&["catalog", "check", file.to_str().unwrap(), "--against"]);
    assert_eq!(refused.code, Some(4));
    assert!(refused.err.contains(message), "{}", refused.err);
    let missing = daemon.run(&["catalog", "check", "/nonexistent/c.json"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("/nonexistent/c.json cannot be read"), "{}", missing.err);
    assert_eq!(daemon.asked().len(), 1);
    let usage = versionctl(&["catalog", "check"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
}

#[test]
fn a_check_is_a_line_for_each_slot() {
    let daemon = Daemon::answering(|_, _| {
        let slot = json!({
            "service": "demo", "name": "v1", "sha256": "02".repeat(32), "before": "01".repeat(32), "change": "swap",
        });
        (200, json!({"schema": 1, "revision": 8, "slots": [slot], "deny": [], "warnings": []}))
    });
    let checked = daemon.run(&["catalog", "check", "https://a.example/versions"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert_eq!(checked.out, "well-formed, revision 8\ndemo/v1  swap      02020202 (now 01010101)\n");
}
