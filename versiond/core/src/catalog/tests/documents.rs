//! Documents: what is read of each format, and what is refused, by its place.

use super::*;
use proptest::prelude::*;

fn context() -> ParseContext {
    ParseContext {
        service: Some(service("demo")),
        platform: "linux/amd64".to_owned(),
        urls: UrlRules { loopback: true, ..UrlRules::default() },
        services: Services::Configured(BTreeMap::from([
            (service("demo"), ServiceShape::Versioned { first_segment: true }),
            (service("inner"), ServiceShape::Versioned { first_segment: false }),
            (service("single"), ServiceShape::Single),
        ])),
    }
}

fn read(text: &str) -> Result<Catalog, CatalogError> {
    parse(text.as_bytes(), &context())
}

fn hex(of: u8) -> String {
    hash(of).to_string()
}

/// One artifact for this platform.
fn release(of: u8) -> String {
    format!(r#"{{"artifacts":{{"linux/amd64":{{"urls":["https://a.example/a"],"sha256":"{}"}}}}}}"#, hex(of))
}

fn schema_1(service: &str, versions: &str) -> String {
    format!(r#"{{"schema":1,"services":{{"{service}":{{"versions":[{versions}]}}}}}}"#)
}

fn one(service: &str, name: &str, releases: &str) -> String {
    schema_1(service, &format!(r#"{{"name":"{name}","releases":[{releases}]}}"#))
}

fn upstream(items: &str) -> String {
    format!(r#"{{"versions":[{items}]}}"#)
}

/// What the only entry comes to at a height: the artifact, or why there is none.
fn only(catalog: &Catalog, height: Option<u64>) -> Result<Artifact, Reason> {
    match only_entry(catalog) {
        Entry::Releases(releases) => match releases.at(height) {
            Some((_, Release::Artifact(artifact))) => Ok(artifact.clone()),
            Some((_, Release::Blocked(reason))) => Err(reason.clone()),
            None => panic!("{releases:?} at {height:?}"),
        },
        Entry::Blocked(reason) => Err(reason.clone()),
    }
}

fn only_entry(catalog: &Catalog) -> &Entry {
    let entries: Vec<_> = catalog.entries().collect();
    let [(_, entry)] = entries.as_slice() else { panic!("{entries:?}") };
    entry
}

#[test]
fn the_design_s_document_is_read() {
    let text = format!(
        r#"{{"schema":1,"revision":42,"services":{{"demo":{{"versions":[{{"name":"v0.2.13","releases":[
            {{"artifacts":{{"linux/amd64":{{"urls":["https://a.example/d.zip"],"sha256":"{}","size":12345,"entry":"demo"}},
                            "linux/arm64":{{"urls":["https://a.example/e.zip"],"sha256":"{}"}}}}}},
            {{"activate":{{"height":123456}},"artifacts":{{"linux/amd64":{{"urls":["https://a.example/f.zip"],"sha256":"{}"}}}}}}
        ]}}]}}}},"deny":["{}"]}}"#,
        hex(1),
        hex(2),
        hex(3),
        hex(4)
    );
    let catalog = read(&text).unwrap();
    assert_eq!(catalog.revision, Some(42));
    assert_eq!(catalog.deny, BTreeSet::from([hash(4)]));
    let expected = Artifact {
        sha256: hash(1),
        urls: vec!["https://a.example/d.zip".to_owned()],
        size: Some(12345),
        entry: Some("demo".to_owned()),
        irreversible: false,
    };
    assert_eq!(only(&catalog, None), Ok(expected));
    let at = |height| only(&catalog, Some(height)).unwrap().sha256;
    assert_eq!((at(123_455), at(123_456), at(u64::MAX)), (hash(1), hash(3), hash(3)));
    // What a height has brought is not taken back on one host.
    let irreversible = |height| only(&catalog, height).unwrap().irreversible;
    assert_eq!((irreversible(None), irreversible(Some(123_456))), (false, true));
}

#[test]
fn the_upstream_list_is_read_with_its_checksum_in_either_place() {
    let catalog = read(&upstream(&format!(
        r#"{{"name":"v1.0","binary":"https://a.example/a.zip?x=1&checksum=sha256:{}&y=2"}},
           {{"name":"v1.1","binary":"https://a.example/b.zip","sha256":"{}","added_later":[1]}},
           {{"name":"v1.2","binary":"https://a.example/c.zip?checksum=sha256:{}","sha256":""}}"#,
        hex(1),
        hex(2),
        hex(3)
    )))
    .unwrap();
    assert_eq!(catalog.revision, None);
    let versions = &catalog.services[&service("demo")];
    let found: Vec<(Sha256, String)> = versions
        .values()
        .map(|entry| match entry {
            Entry::Releases(releases) => match releases.at(None) {
                Some((None, Release::Artifact(artifact))) => (artifact.sha256, artifact.urls[0].clone()),
                other => panic!("{other:?}"),
            },
            blocked @ Entry::Blocked(_) => panic!("{blocked:?}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            (hash(1), "https://a.example/a.zip?x=1&y=2".to_owned()),
            (hash(2), "https://a.example/b.zip".to_owned()),
            (hash(3), "https://a.example/c.zip".to_owned()),
        ]
    );
    for empty in ["{\"versions\":[]}", "{\"versions\":null}"] {
        assert!(read(empty).unwrap().is_empty());
    }
    let nobody = ParseContext { service: None, ..context() };
    assert_eq!(parse(b"{\"versions\":[]}", &nobody), Err(CatalogError::NoService));
}

#[test]
fn what_is_malformed_refuses_the_document_and_names_the_place() {
    let good = release(1);
    let shape = |path: &str| (path.to_owned(), "shape");
    let cases: Vec<(String, (String, &str))> = vec![
        ("[]".to_owned(), shape("the document")),
        ("{}".to_owned(), shape("the document")),
        (r#"{"schema":1}"#.to_owned(), shape("services")),
        (r#"{"schema":1,"services":{},"extra":1}"#.to_owned(), shape("extra")),
        (r#"{"schema":1,"services":{},"revision":-1}"#.to_owned(), shape("revision")),
        (r#"{"schema":1,"services":{},"revision":1.5}"#.to_owned(), shape("revision")),
        (r#"{"schema":"1","services":{}}"#.to_owned(), shape("schema")),
        (schema_1("demo", r#"{"name":"w1"}"#), shape("services.demo.versions[0].releases")),
        (schema_1("demo", &format!(r#"{{"releases":[{good}]}}"#)), shape("services.demo.versions[0].name")),
        (one("demo", "w1", ""), shape("services.demo.versions[0].releases")),
        (
            one("demo", "w1", r#"{"artifacts":{"linux/amd64":{"urls":[],"sha256":"x"}}}"#),
            shape("services.demo.versions[0].releases[0].artifacts.linux/amd64.urls"),
        ),
        (
            one("demo", "w1", r#"{"activate":{"time":1},"artifacts":{}}"#),
            shape("services.demo.versions[0].releases[0].activate.time"),
        ),
        (one("demo", "v 1", &good), ("services.demo.versions[0].name".to_owned(), "name")),
        (
            one("demo", "w1", r#"{"artifacts":{"linux/arm64":{"urls":["https://a.example"],"sha256":"abc"}}}"#),
            ("services.demo.versions[0].releases[0].artifacts.linux/arm64.sha256".to_owned(), "name"),
        ),
        (r#"{"schema":1,"services":{},"deny":["xyz"]}"#.to_owned(), ("deny[0]".to_owned(), "name")),
        (
            one("demo", "w1", &format!("{good},{good}")),
            ("services.demo.versions[0].releases[1]".to_owned(), "duplicate"),
        ),
        (
            schema_1("demo", &format!(r#"{{"name":"w1","releases":[{good}]}},{{"name":"w1","releases":[{good}]}}"#)),
            ("services.demo.versions[1].name".to_owned(), "duplicate"),
        ),
        (upstream(r#"{"name":"w1","binary":"https://a.example"}"#), shape("versions[0].sha256")),
        (
            upstream(&format!(
                r#"{{"name":"w1","binary":"https://a.example?checksum=sha256:{}","sha256":"{}"}}"#,
                hex(1),
                hex(2)
            )),
            shape("versions[0]"),
        ),
        (
            upstream(r#"{"name":"w1","binary":"https://a.example?checksum=sha256:12"}"#),
            ("versions[0].binary".to_owned(), "name"),
        ),
        (upstream(r#"{"name":"","binary":"https://a.example"}"#), shape("versions[0].sha256")),
        (upstream(r#"{"name":"w1","binary":"https://a.example?checksum=sha512:12"}"#), shape("versions[0].binary")),
    ];
    for (text, expected) in cases {
        let found = match read(&text) {
            Err(CatalogError::Shape { path, .. }) => (path, "shape"),
            Err(CatalogError::Name { path, .. }) => (path, "name"),
            Err(CatalogError::Duplicate { path, .. }) => (path, "duplicate"),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(read(r#"{"schema":2}"#), Err(CatalogError::Schema(2)));
    assert_eq!(parse(&vec![b' '; MAX_BYTES + 1], &context()), Err(CatalogError::TooLarge));
}

#[test]
fn syntax_errors_and_duplicate_keys_name_line_and_column() {
    for (text, place) in [
        ("", (1, 0)),
        ("{\"schema\":1,\n\"services\":{},}", (2, 15)),
        ("{\"schema\":1,\n \"services\":{},\n \"schema\":1}", (3, 9)),
        ("{\"versions\":[\n{\"name\":\"a\",\"name\":\"b\"}]}", (2, 18)),
        ("{\"versions\":[]} {}", (1, 17)),
        ("{\"versions\":[\"\u{1}\"]}", (1, 15)),
    ] {
        let Err(CatalogError::Syntax { line, column, .. }) = read(text) else { panic!("{text}: {:?}", read(text)) };
        assert_eq!((line, column), place, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(read(&deep), Err(CatalogError::Syntax { .. })));
}

#[test]
fn what_cannot_be_served_here_blocks_its_own_slot() {
    let elsewhere =
        format!(r#"{{"artifacts":{{"linux/s390x":{{"urls":["https://a.example"],"sha256":"{}"}}}}}}"#, hex(1));
    let at = |url: &str| release(1).replace("https://a.example/a", url);
    for text in [
        one("demo", "w1", &elsewhere),
        one("demo", "HealthZ", &release(1)),
        one("other", "w1", &release(1)),
        one("demo", "w1", &at("http://a.example/a")),
        one("demo", "w1", &at("http://127.0.0.1@a.example/a")),
        one("demo", "w1", &at("ftp://a.example/a")),
        one("demo", "w1", &at("file:///etc/passwd")),
        one("demo", "w1", &at("a.example/a")),
        one("demo", "w1", &at("https:///a")),
        one("demo", "w1", &at("https://10.0.0.1/a")),
        one("demo", "w1", &at("https://[fd00::1]/a")),
        one("demo", "w1", &at("https://169.254.169.254/latest/meta-data")),
        schema_1(
            "single",
            &format!(r#"{{"name":"w1","releases":[{0}]}},{{"name":"v2","releases":[{0}]}}"#, release(1)),
        ),
    ] {
        let catalog = read(&text).unwrap();
        assert!(matches!(only(&catalog, None), Err(Reason::Unservable { .. })), "{text}: {catalog:?}");
    }
    for text in [
        one("inner", "healthz", &release(1)),
        one("demo", "w1", &at("http://127.0.0.1:8080/a")),
        one("demo", "w1", &at("http://[::1]:8080/a")),
        one("demo", "w1", &at("HTTP://LocalHost/a")),
        one("demo", "w1", &at("https://user:pw@a.example:443/a?b#c")),
        one("demo", "w1", &at("ftp://a.example/a\",\"https://b.example/a")),
    ] {
        let catalog = read(&text).unwrap();
        assert_eq!(only(&catalog, None).unwrap().urls.len(), 1, "{text}");
    }
}

/// F70: what points at this machine or into its network is for catalogs that come from there.
#[test]
fn f70_an_inward_address_needs_a_catalog_from_there_or_the_operator_s_word() {
    let at = |url: &str| one("demo", "w1", &release(1).replace("https://a.example/a", url));
    let with = |rules: UrlRules, url: &str| {
        let catalog = parse(at(url).as_bytes(), &ParseContext { urls: rules, ..context() }).unwrap();
        only(&catalog, None).is_ok()
    };
    let strict = UrlRules::default();
    let private = UrlRules { private: true, ..strict };
    for inward in ["https://127.0.0.1/a", "http://127.0.0.1/a", "https://localhost/a", "https://x.localhost./a"] {
        assert!(!with(strict, inward) && !with(private, inward), "{inward}");
        assert!(with(UrlRules { loopback: true, ..strict }, inward), "{inward}");
    }
    for near in ["https://10.1.1.1/a", "https://[fd00::1]:8443/a", "https://100.64.0.1/a"] {
        assert!(!with(strict, near) && with(private, near), "{near}");
    }
    for never in ["https://169.254.169.254/a", "https://[fe80::1]/a", "https://0.0.0.0/a"] {
        let all = UrlRules { http: true, file: true, loopback: true, private: true };
        assert!(!with(all, never), "{never}");
    }
}

#[test]
fn a_service_without_versions_in_its_route_has_one_slot_of_its_own_name() {
    let catalog = read(&one("single", "v7", &release(1))).unwrap();
    let entries: Vec<_> = catalog.entries().map(|(slot, _)| slot.to_string()).collect();
    assert_eq!(entries, ["single/single"]);
    assert_eq!(only(&catalog, None), Ok(artifact(1)));
}

#[test]
fn caps_block_what_is_beyond_them() {
    let versions: Vec<String> =
        (0..MAX_VERSIONS + 2).map(|n| format!(r#"{{"name":"v{n:03}","releases":[{}]}}"#, release(1))).collect();
    let catalog = read(&schema_1("demo", &versions.join(","))).unwrap();
    let blocked: Vec<String> = catalog
        .entries()
        .filter(|(_, entry)| matches!(entry, Entry::Blocked(_)))
        .map(|(slot, _)| slot.name.to_string())
        .collect();
    assert_eq!(blocked, ["v064", "v065"]);
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse(&bytes, &context()).ok();
    }

    /// Breaks a good document in one place at a time.
    #[test]
    fn a_damaged_document_is_refused_or_read_but_never_panics(at in 0usize..600, with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = one("demo", "w1", &release(1)).into_bytes();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        if let Ok(catalog) = parse(&bytes, &context()) {
            prop_assert!(catalog.entries().count() <= 1);
        }
    }
}
