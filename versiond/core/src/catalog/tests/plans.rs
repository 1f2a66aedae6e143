//! Upgrade plans: what a node writes, what a Cosmovisor's folder comes to, and what of it is refused.

use proptest::prelude::*;
use supervisor_protocol::Tick;

use super::*;

fn context() -> ParseContext {
    ParseContext {
        service: Some(service("node")),
        platform: "linux/amd64".to_owned(),
        urls: UrlRules { file: true, ..UrlRules::default() },
        services: Services::Configured(BTreeMap::from([
            (service("node"), ServiceShape::Single),
            (service("demo"), ServiceShape::Versioned { first_segment: true }),
        ])),
    }
}

fn plan(name: &str, height: u64, info: &str) -> String {
    serde_json::json!({"name": name, "time": "0001-01-01T00:00:00Z", "height": height, "info": info}).to_string()
}

fn binaries(platform: &str, url: &str) -> String {
    serde_json::json!({"binaries": {platform: url}}).to_string()
}

fn checked(of: u8) -> String {
    format!("https://a.example/node.zip?checksum=sha256:{}", hash(of))
}

fn local(of: u8) -> Local {
    Local { path: format!("/home/node/{of}"), sha256: hash(of), size: 10 }
}

fn upgrade(name: &str, height: u64, of: u8) -> Upgrade {
    Upgrade { name: name.to_owned(), height, local: Some(local(of)), info: String::new(), problem: None }
}

fn snapshot(upgrades: &[Upgrade], reached: Option<u64>) -> Snapshot {
    Snapshot {
        daemon: "node".to_owned(),
        base: Some(local(1)),
        base_height: None,
        upgrades: upgrades.to_vec(),
        reached,
    }
}

fn read(document: &[u8]) -> Catalog {
    parse(document, &context()).unwrap()
}

/// The byte of the hash that is wanted, and what blocks.
fn wanted(tracker: &Tracker) -> (u8, Option<Reason>) {
    let desired = tracker.desired();
    let [intent] = desired.slots.values().collect::<Vec<_>>()[..] else { panic!("{desired:?}") };
    (intent.artifact.as_ref().map_or(0, |artifact| artifact.sha256.0[0]), intent.blocked.clone())
}

fn follow(snapshot: &Snapshot) -> Tracker {
    let tracker = Tracker::new(Removals::Follow, false);
    tracker.observe(read(&snapshot.to_document().unwrap()), Tick(0)).unwrap()
}

#[test]
fn a_plan_is_read_as_a_node_writes_it() {
    let plain = plan("V2", 7, "");
    assert_eq!(read_plan(plain.as_bytes()), Ok(Plan { name: "V2".to_owned(), height: 7, info: String::new() }));
    let odd = br#"{"name":"v2","height":"7","upgraded_client_state":null}"#;
    assert_eq!(read_plan(odd).unwrap().height, 7);
    let two = format!("[{},{}]", plan("v2", 7, ""), plan("v3", 9, "i"));
    let heights: Vec<u64> = read_batch(two.as_bytes()).unwrap().iter().map(|plan| plan.height).collect();
    assert_eq!(heights, [7, 9]);
}

/// A node does not write its plan at once: every beginning of the file is one that is not there yet.
#[test]
fn a_torn_plan_is_not_there_yet_and_a_wrong_one_is_refused() {
    let whole = plan("v2", 7, &binaries("any", &checked(2)));
    for cut in 0..whole.len() {
        assert_eq!(read_plan(&whole.as_bytes()[..cut]), Err(PlanError::Torn), "{cut}");
    }
    assert_eq!(read_plan(&[0; 64]), Err(PlanError::Torn));
    assert_eq!(read_plan(b" \n"), Err(PlanError::Torn));
    assert_eq!(read_batch(b"[{\"name\":"), Err(PlanError::Torn));
    let timed = whole.replace("0001-01-01", "2026-01-01");
    let nul = "{\"name\":\"a\\u0000\",\"height\":1}".to_owned();
    for wrong in [
        plan("", 7, ""),
        plan("..", 7, ""),
        plan(".", 7, ""),
        plan("v2", 0, ""),
        timed,
        nul,
        "{}".to_owned(),
        "[]".to_owned(),
        "{\"name\":\"a\",\"name\":\"b\",\"height\":1}".to_owned(),
        "nonsense".to_owned(),
        "{\"name\":\"a\",\"height\":-1}".to_owned(),
        "{\"name\":\"a\",\"height\":\"x\"}".to_owned(),
    ] {
        assert!(matches!(read_plan(wrong.as_bytes()), Err(PlanError::Malformed(_))), "{wrong}");
    }
}

#[test]
fn folders_are_named_in_lower_case_and_escaped() {
    for (name, folder) in [
        ("v2", "v2"),
        ("V2.Upgrade", "v2.upgrade"),
        ("a b/c", "a%20b%2Fc"),
        ("é", "%C3%A9"),
        ("x_y-z~+1:@&=$", "x_y-z~+1:@&=$"),
        ("50%", "50%25"),
    ] {
        assert_eq!(folder_of(name), folder, "{name}");
    }
}

#[test]
fn the_info_of_a_plan_is_binaries_an_address_or_nothing() {
    assert_eq!(read_info("  "), Ok(Info::Nothing));
    let map = BTreeMap::from([("any".to_owned(), "https://a.example".to_owned())]);
    assert_eq!(read_info(&binaries("any", "https://a.example")), Ok(Info::Binaries(map)));
    let elsewhere = format!("https://a.example/info.json?checksum=sha256:{}", hash(3));
    let expected = Info::Elsewhere { url: "https://a.example/info.json".to_owned(), sha256: Some(hash(3)) };
    assert_eq!(read_info(&elsewhere), Ok(expected));
    for bad in ["{", "{}", "{\"binaries\":[]}", "words", "https://a.example?checksum=md5:1", "see https://a.example"] {
        assert!(read_info(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_plan_names_runs_from_its_height_on_and_needs_a_sha256() {
    let of = |info: &str| read(plan("v2", 7, info).as_bytes());
    let tracker = |info: &str| Tracker::new(Removals::Follow, false).observe(of(info), Tick(0)).unwrap();
    for platform in ["linux/amd64", "any"] {
        let waiting = tracker(&binaries(platform, &checked(2)));
        assert_eq!(wanted(&waiting), (0, Some(Reason::NotYetActive { height: None, activates_at: 7 })));
        let reached = waiting.at_height(Some(7));
        assert_eq!(wanted(&reached), (2, None));
        let artifact = reached.desired().slots.into_values().next().unwrap().artifact.unwrap();
        assert_eq!((artifact.urls, artifact.irreversible), (vec!["https://a.example/node.zip".to_owned()], true));
    }
    for (info, word) in [
        (binaries("linux/arm64", &checked(2)), "linux/amd64"),
        (binaries("any", "https://a.example/node.zip"), "checksum"),
        (binaries("any", "https://a.example/node.zip?checksum=sha512:00"), "sha512"),
        (binaries("any", "https://a.example/node.zip?checksum=md5:00"), "md5"),
        (binaries("any", "https://a.example/n?checksum=file:https://a.example/sums"), "file"),
        (binaries("any", &checked(2).replace("https:", "http:")), "http"),
        (binaries("any", &checked(2).replace("a.example", "10.0.0.1")), "private"),
        (String::new(), "upgrades/v2/bin"),
        ("https://a.example/info".to_owned(), "cosmovisor:"),
        ("{".to_owned(), "info"),
    ] {
        match wanted(&tracker(&info).at_height(Some(7))) {
            (0, Some(Reason::Unservable { detail })) => assert!(detail.contains(word), "{info}: {detail}"),
            other => panic!("{info}: {other:?}"),
        }
    }
    let two = format!("[{},{}]", plan("v2", 7, ""), plan("v3", 7, ""));
    assert!(matches!(parse(two.as_bytes(), &context()), Err(CatalogError::Duplicate { .. })));
    let versioned = ParseContext { service: Some(service("demo")), ..context() };
    let catalog = parse(plan("v2", 7, "").as_bytes(), &versioned).unwrap();
    assert!(matches!(catalog.entries().next().unwrap().1, Entry::Blocked(_)));
}

#[test]
fn a_folder_s_program_comes_before_what_its_plan_names_and_keeps_its_hash_as_identity() {
    let named = Upgrade { info: binaries("any", &checked(9)), ..upgrade("v2", 7, 2) };
    let tracker = follow(&snapshot(&[named], None));
    assert_eq!(wanted(&tracker).0, 1);
    let desired = tracker.at_height(Some(7)).desired();
    let intent = desired.slots.values().next().unwrap();
    let artifact = intent.artifact.as_ref().unwrap();
    assert_eq!((artifact.sha256, artifact.urls[0].as_str()), (hash(2), "file:/home/node/2"));
    assert_eq!((intent.since_height, artifact.irreversible), (Some(7), true));
    let base = follow(&snapshot(&[], None)).desired();
    let base = base.slots.values().next().unwrap();
    assert_eq!((base.since_height, base.artifact.as_ref().unwrap().irreversible), (None, true));
    // A document from elsewhere may name no file.
    let strict = ParseContext { urls: UrlRules::default(), ..context() };
    let bytes = snapshot(&[], None).to_document().unwrap();
    let tracker = Tracker::new(Removals::Follow, false).observe(parse(&bytes, &strict).unwrap(), Tick(0)).unwrap();
    assert!(matches!(wanted(&tracker), (0, Some(Reason::Unservable { .. }))));
}

/// Upstream, with its link gone, starts the genesis program again.
#[test]
fn what_has_been_reached_is_not_forgotten_with_the_plan_file_or_the_link() {
    let first = snapshot(&[upgrade("V2", 7, 2), upgrade("v3", 9, 3)], Some(7));
    assert_eq!(wanted(&follow(&first)).0, 2);
    // The node asks for the next one: its file names that alone, and the link still says genesis.
    let second = snapshot(&[upgrade("v3", 9, 3)], None).after(Some(&first), None);
    assert_eq!(wanted(&follow(&second)), (2, Some(Reason::NotYetActive { height: Some(7), activates_at: 9 })));
    let third = snapshot(&[upgrade("v3", 9, 3)], Some(9)).after(Some(&second), None);
    assert_eq!(wanted(&follow(&third)).0, 3);
    let nothing = snapshot(&[], None).after(Some(&third), None);
    assert_eq!(wanted(&follow(&nothing)).0, 3);
    // A plan that was called off before its height is gone, and a later one of its name replaces it.
    let called_off = snapshot(&[], None).after(Some(&snapshot(&[upgrade("v2", 7, 2)], None)), Some(6));
    assert_eq!(called_off.upgrades, []);
    let moved = snapshot(&[upgrade("v2", 8, 2)], None).after(Some(&snapshot(&[upgrade("V2", 7, 2)], Some(7))), None);
    assert_eq!(moved.upgrades, [upgrade("v2", 8, 2)]);
    // A Cosmovisor that has gone further meanwhile is believed.
    let further = Snapshot { base: Some(local(8)), base_height: Some(20), ..snapshot(&[], None) };
    assert_eq!(wanted(&follow(&further.after(Some(&third), Some(9)))).0, 8);
}

#[test]
fn a_snapshot_reads_back_and_a_damaged_one_is_refused_by_its_place() {
    let first = snapshot(&[upgrade("v2", 7, 2)], Some(7));
    assert_eq!(Snapshot::of_document(&first.to_document().unwrap()), Some(first));
    assert_eq!(Snapshot::of_document(b"{\"versions\":[]}"), None);
    for bad in
        [r#"{"cosmovisor":{}}"#, r#"{"cosmovisor":{"daemon":"x","extra":1}}"#, r#"{"cosmovisor":{"daemon":"x"}}"#]
    {
        let error = parse(bad.as_bytes(), &context()).unwrap_err();
        assert!(matches!(&error, CatalogError::Shape { path, .. } if path == "cosmovisor"), "{bad}: {error:?}");
    }
}

proptest! {
    #[test]
    fn a_damaged_plan_is_refused_or_read_but_never_panics(at in 0usize..300, with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = plan("v2", 7, &binaries("any", &checked(2))).into_bytes();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        read_plan(&bytes).ok();
        read_batch(&bytes).ok();
        parse(&bytes, &context()).ok();
        if let Ok(text) = String::from_utf8(bytes) {
            read_info(&text).ok();
        }
    }
}
