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

/// A document in a file of its own, checked without a daemon.
fn offline(document: &str, more: &[&str]) -> fake::Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.json");
    std::fs::write(&file, document).unwrap();
    let check = ["--admin", "/nonexistent/admin.sock", "catalog", "check", "--offline", file.to_str().unwrap()];
    fake::Ended::of(&versionctl(&[&check[..], more].concat()).output().unwrap())
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn release(url: &str, digit: char) -> serde_json::Value {
    json!({"artifacts": {"linux/amd64": {"urls": [url], "sha256": hash(digit)}}})
}

#[test]
fn offline_a_document_is_checked_without_a_daemon_and_what_only_a_host_knows_is_named() {
    let mut later = release("ftp://a.example/a", 'b');
    later["activate"] = json!({"height": 200});
    let document = json!({"schema": 1, "revision": 42, "deny": [hash('d')], "services": {"demo": {"versions": [
        {"name": "v0.1", "releases": [release("http://10.0.0.1/a", 'a'), later]},
        {"name": "v0.2", "releases": [release("gopher://a.example/a", 'c')]},
        {"name": "metrics", "releases": [release("https://a.example/a", 'c')]},
    ]}}});
    let on = ["--platform", "linux/amd64"];
    let checked = offline(&document.to_string(), &on);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    assert_eq!(
        checked.out,
        format!(
            "well-formed, revision 42\n\
             demo/metrics  start     cccccccc\n\
             demo/v0.1     start     aaaaaaaa\n    \
                 cannot be served here: no usable URL: the scheme \"ftp\" is not supported (unservable)\n\
             demo/v0.2     blocked   -\n    \
                 cannot be served here: no usable URL: the scheme \"gopher\" is not supported (unservable)\n\
             denies {}\n\
             warning: demo/metrics is not served where a route begins with {{version}}: it is a path of the host\n\
             warning: demo/v0.1 from height 200: cannot be served here: no usable URL: the scheme \"ftp\" is not supported\n\
             not checked: which addresses a host may reach: its address rules\n\
             not checked: what a host makes of it: its services and routes, what is in effect there, earlier \
             revisions, overrides\n\
             not checked: the signature: no --trust-key is given\n",
            hash('d')
        )
    );
    let json: serde_json::Value = serde_json::from_str(&offline(&document.to_string(), &["--json"]).out).unwrap();
    assert_eq!((&json["check"]["revision"], json["not_checked"].as_array().unwrap().len()), (&json!(42), 3));
    let other = offline(&document.to_string(), &["--platform", "linux/arm64"]);
    assert!(other.out.contains("no artifact for linux/arm64"), "{}", other.out);
}

#[test]
fn offline_a_refusal_names_the_place_in_the_document() {
    let many = |count: usize| {
        let version =
            |number: usize| json!({"name": format!("v{number}"), "releases": [release("https://a.example/a", 'a')]});
        json!({"schema": 1, "services": {"demo": {"versions": (0..count).map(version).collect::<Vec<_>>()}}})
            .to_string()
    };
    let short = many(1).replace(&hash('a'), "abc");
    for (document, place) in [
        ("{\n  \"schema\": 1,\n}".to_owned(), "line 3, column 1"),
        ("{\"schema\": 1}".to_owned(), "services: missing"),
        ("{\"schema\": 2}".to_owned(), "schema 2 is not supported"),
        (short, "services.demo.versions[0].releases[0].artifacts.linux/amd64.sha256 is malformed"),
        (many(1).replace("v0", "../v0"), "services.demo.versions[0].name is malformed"),
        (many(2).replace("v1", "v0"), "services.demo.versions[1].name: a second \"v0\""),
        (format!("{{\"schema\": 1, \"services\": {{}}}}{}", " ".repeat(1 << 20)), "more than 1048576 bytes"),
        ("{\"versions\": []}".to_owned(), "the document names no service"),
    ] {
        let refused = offline(&document, &[]);
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{place}");
        assert!(refused.err.contains("c.json would be refused: ") && refused.err.contains(place), "{}", refused.err);
    }
    // A cap of a host blocks what is above it, and leaves the rest.
    let capped = offline(&many(65), &["--platform", "linux/amd64"]);
    assert_eq!(capped.out.matches("a service takes 64 versions (unservable)").count(), 1, "{}", capped.out);
}

#[test]
fn offline_a_list_or_a_plan_is_of_the_service_that_is_named() {
    let list = json!({"versions": [{"name": "v1", "binary": "https://a.example/a", "sha256": hash('a')}]});
    let checked = offline(&list.to_string(), &["--service", "demo"]);
    assert!(checked.out.contains("demo/v1  start     aaaaaaaa"), "{checked:?}");
    assert!(checked.out.contains("warning: no revision"), "{checked:?}");
    let info = json!({"binaries": {"any": format!("https://a.example/a?checksum=sha256:{}", hash('a'))}}).to_string();
    let plan = json!({"name": "next", "height": 7, "info": info});
    let checked = offline(&plan.to_string(), &["--service", "node"]);
    assert!(checked.out.contains("node/node") && checked.out.contains("from height 7: aaaaaaaa"), "{checked:?}");
    assert_eq!(offline(&list.to_string(), &["--service", "a/b"]).code, Some(64));
}

#[test]
fn offline_a_key_asks_for_a_signature_and_an_address_for_a_daemon() {
    let signed = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/catalog/tests/signed");
    let text = std::fs::read_to_string(format!("{signed}/key.pub")).unwrap();
    let key = text.lines().find(|line| line.starts_with("RW")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| std::fs::copy(format!("{signed}/{from}"), folder.path().join(to)).unwrap();
    let document = folder.path().join("c.json");
    let check = || {
        let args = ["catalog", "check", "--offline", document.to_str().unwrap(), "--trust-key", key];
        fake::Ended::of(&versionctl(&args).output().unwrap())
    };
    copy("1.json", "c.json");
    copy("1.json.minisig", "c.json.minisig");
    let checked = check();
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(!checked.out.contains("the signature"), "{}", checked.out);
    copy("1.json.stranger.minisig", "c.json.minisig");
    let checked = check();
    assert_eq!(checked.code, Some(1));
    assert!(checked.err.contains("would not be trusted: the signature is not over these bytes"), "{}", checked.err);

    let unsigned = offline("{}", &["--trust-key", key]);
    assert_eq!(unsigned.code, Some(1));
    assert!(unsigned.err.contains("there is no signature beside it"), "{}", unsigned.err);
    assert_eq!(offline("{}", &["--trust-key", "RWQ"]).code, Some(64));
    assert_eq!(offline("{}", &["--against"]).code, Some(64));
    let of_file = versionctl(&["catalog", "check", "--offline", "https://a.example/c"]).output().unwrap();
    assert_eq!(of_file.status.code(), Some(64));
    let alone = versionctl(&["catalog", "check", "--platform", "linux/arm64", "c.json"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(64));
}
