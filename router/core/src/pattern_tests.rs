use proptest::prelude::*;

use super::*;

/// The table that `docs` of the router show.
fn table() -> Routes<&'static str> {
    let route = |pattern: &str, key: &str, to| {
        let pattern = PathPattern::parse(pattern).unwrap();
        let key = if key.is_empty() { KeyTemplate::WholePath } else { KeyTemplate::parse(key, &pattern).unwrap() };
        Route { pattern, key, to }
    };
    Routes::new(vec![
        route("/*", "", "front"),
        route("/v1/*", "", "edge-api"),
        route("/{version}/*", "", "hosts"),
        route("/devshard/{version}/sessions/{session}/*", "{session}", "sessions"),
        route("/stats/shards/{id}", "shard {id}", "stats"),
    ])
    .unwrap()
}

/// `to key version`, or what else became of the path.
fn found(routes: &Routes<&'static str>, path: &str) -> String {
    match routes.find(path) {
        Found::Reserved => "reserved".to_owned(),
        Found::Unrouted => "unrouted".to_owned(),
        Found::Routed(Routed { to, key, version, .. }) => {
            format!("{to} {key} {}", version.as_ref().map_or("-", VersionName::as_str))
        }
    }
}

#[test]
fn the_most_specific_route_says_the_pool_the_key_and_the_version() {
    let routes = table();
    for (path, expected) in [
        ("/devshard/v0.2.13/sessions/42/chat/completions", "sessions 42 v0.2.13"),
        ("/v0.2.13/sessions/42/chat/completions", "sessions 42 v0.2.13"),
        ("/v0.2.13/sessions/42", "sessions 42 v0.2.13"),
        ("/v0.2.13/sessions/42/", "sessions 42 v0.2.13"),
        ("/v0.2.13/sessions/", "hosts /v0.2.13/sessions/ v0.2.13"),
        ("/v0.2.13/sessions", "hosts /v0.2.13/sessions v0.2.13"),
        ("/devshard/v0.2.13/x", "hosts /v0.2.13/x v0.2.13"),
        ("/v1/status", "edge-api /v1/status -"),
        ("/v1", "edge-api /v1 -"),
        ("/v10/status", "hosts /v10/status v10"),
        ("/stats/shards/7", "stats shard 7 -"),
        ("/stats/shards/7/more", "front /stats/shards/7/more -"),
        ("/.hidden/x", "front /.hidden/x -"),
        ("/", "front / -"),
        ("/devshard", "front /devshard -"),
        ("/devshard/", "front / -"),
        ("//v1", "front //v1 -"),
    ] {
        assert_eq!(found(&routes, path), expected, "{path}");
    }
    let order: Vec<String> = routes.iter().map(|route| route.pattern.to_string()).collect();
    assert_eq!(order, ["/stats/shards/{id}", "/{version}/sessions/{session}/*", "/v1/*", "/{version}/*", "/*"]);
}

#[test]
fn what_is_reserved_is_never_forwarded() {
    let routes = table();
    for path in [
        "/healthz",
        "/readyz",
        "/drain",
        "/drain/status",
        "/devshard/healthz",
        "/devshard/drain/x",
        "//healthz",
        "/%68ealthz",
        "/drai%6E/status",
        "/devshard//readyz",
    ] {
        assert_eq!(found(&routes, path), "reserved", "{path}");
    }
    assert_eq!(found(&routes, "/healthzy"), "hosts /healthzy healthzy");
    assert_eq!(found(&routes, "/%6healthz"), "front /%6healthz -");
    assert_eq!(PathPattern::parse("/drain/*").unwrap_err().fault, Fault::Reserved);
}

#[test]
fn the_quick_start_keys_by_a_prefix_and_everything_else_by_its_path() {
    let routes = Routes::by_key("/{version}/sessions/{session}", "all").unwrap();
    for (path, expected) in [
        ("/v2/sessions/a/chat", "all a v2"),
        ("/devshard/v2/sessions/a", "all a v2"),
        ("/v3/sessions/a", "all a v3"),
        ("/v2/models", "all /v2/models -"),
        ("/", "all / -"),
    ] {
        assert_eq!(found(&routes, path), expected, "{path}");
    }
    assert_eq!(found(&Routes::by_key("/{a}/{b}", "all").unwrap(), "/x/y/z"), "all x/y -");
    assert_eq!(found(&Routes::by_key("/", "all").unwrap(), "/x/y/z"), "all /x/y/z -");
    assert_eq!(found(&Routes::by_key("/{version}", "all").unwrap(), "/v2/y"), "all v2 v2");
    assert_eq!(Routes::by_key("/sessions", "all").unwrap_err().fault, Fault::EmptyKey);
}

#[test]
fn a_route_that_spells_out_the_optional_prefix_alone_is_about_it() {
    let everything = |text: &str| PathPattern::parse(text).unwrap();
    assert!(everything("/devshard/*").matches("/devshard/v2/x"));
    assert!(!everything("/devshard/*").matches("/v2/x"));
    assert_eq!(everything("/devshard/v2/*"), everything("/v2/*"));
}

#[test]
fn a_bad_pattern_is_refused_with_its_place() {
    let at = |text: &str| {
        let error = PathPattern::parse(text).unwrap_err();
        (error.at, error.fault)
    };
    assert_eq!(at("v1/*"), (0, Fault::NoSlash));
    assert_eq!(at(""), (0, Fault::NoSlash));
    assert_eq!(at("/a//b"), (3, Fault::Segment));
    assert_eq!(at("/a/../b"), (3, Fault::Segment));
    assert_eq!(at("/a/{}/b"), (3, Fault::Placeholder));
    assert_eq!(at("/a/b{id}/*"), (4, Fault::Placeholder));
    assert_eq!(at("/a/{Id}/*"), (3, Fault::Placeholder));
    assert_eq!(at("/{id}/x/{id}"), (8, Fault::Twice("id".to_owned())));
    assert_eq!(at("/a/x*"), (4, Fault::Star));
    assert_eq!(at("/*/a"), (1, Fault::Star));
    assert_eq!(at("/a%2fb/*"), (2, Fault::Character('%')));
    assert_eq!(
        PathPattern::parse("/a/x y/*").unwrap_err().to_string(),
        "\"/a/x y/*\", at \" y/*\" (position 4): a path may not contain ' '"
    );
}

#[test]
fn a_bad_key_is_refused_with_its_place() {
    let pattern = PathPattern::parse("/{version}/sessions/{session}/*").unwrap();
    let at = |text: &str| {
        let error = KeyTemplate::parse(text, &pattern).unwrap_err();
        (error.at, error.fault)
    };
    assert_eq!(at("{session}-{escrow}"), (10, Fault::NotInPath("escrow".to_owned())));
    assert_eq!(at("{version}/{"), (10, Fault::Placeholder));
    assert_eq!(at("x}"), (1, Fault::Placeholder));
    assert_eq!(at("x"), (0, Fault::EmptyKey));
    assert_eq!(at(""), (0, Fault::EmptyKey));
    let twice = ["/a/{b}/*", "/a/{c}/*"].map(|text| Route {
        pattern: PathPattern::parse(text).unwrap(),
        key: KeyTemplate::WholePath,
        to: (),
    });
    assert_eq!(Routes::new(twice.into()).unwrap_err().fault, Fault::SamePaths);
}

proptest! {
    #[test]
    fn a_pattern_reads_back_as_it_is_written(text in "(/(devshard|v1|[{]version[}]|[{]id[}]|[a-z]{1,3}|[*]|))*") {
        if let Ok(pattern) = PathPattern::parse(&text) {
            prop_assert_eq!(PathPattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }

    #[test]
    fn any_path_leads_somewhere_and_the_optional_prefix_changes_nothing(path in "(/[a-z0-9%.{*]{0,6}){1,6}|[ -~]{0,12}") {
        let routes = table();
        let led = found(&routes, &path);
        if path.starts_with('/') && !path.starts_with("/devshard/") {
            prop_assert_eq!(found(&routes, &format!("/devshard{path}")), led);
        }
    }
}
