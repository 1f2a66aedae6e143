//! Files in the place of artifacts.

use super::*;

const SERVICE: &str = "[service.demo]\nroute = \"/{version}\"\n";

fn follower(path: &Utf8Path, overrides: &str, env: &[(&str, &str)]) -> Follower {
    let file = write_settings(path, "http://127.0.0.1:9/versions", "", &format!("{SERVICE}{overrides}"));
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Follower::open(&config::load(Some(&file), &env).unwrap())
}

fn intent<'v>(view: &'v CatalogView, name: &str) -> &'v versiond_core::catalog::Intent {
    let found = view.desired.slots.iter().find(|(slot, _)| slot.name.as_str() == name);
    found.unwrap_or_else(|| panic!("{view:?}")).1
}

fn hash_of(text: &str) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(text.as_bytes()).into())
}

#[test]
fn a_file_replaces_the_artifact_by_its_hash_and_a_changed_file_is_a_swap() {
    let (_guard, path) = folder();
    let file = path.join("build");
    std::fs::write(&file, "one").unwrap();
    let mut follower = follower(&path, &format!("[override.\"demo/v0.1\"]\nfile = \"{file}\"\n"), &[]);
    let document = versions(1, &[("v0.1", 1), ("v0.2", 2)]);
    let view = take(&mut follower, &document, 0);
    let replaced = intent(&view, "v0.1");
    let artifact = replaced.artifact.as_ref().unwrap();
    assert_eq!((artifact.sha256, &artifact.urls), (hash_of("one"), &vec![format!("file:{file}")]));
    assert_eq!(replaced.override_file.as_deref(), Some(file.as_str()));
    assert_eq!(intent(&view, "v0.2").artifact.as_ref().unwrap().sha256, hash(2));
    assert_eq!(intent(&view, "v0.2").override_file, None);
    std::fs::write(&file, "two, of another length").unwrap();
    let view = take(&mut follower, &document, 1);
    assert_eq!(intent(&view, "v0.1").artifact.as_ref().unwrap().sha256, hash_of("two, of another length"));
    // A source that is down does not hide the operator's own change.
    std::fs::write(&file, "three").unwrap();
    let silent = Err(SourceError::Timeout { place: "x".to_owned() });
    follower.take(silent, Err(UnknownHeight::NoSource), Tick(2_000));
    assert_eq!(intent(&follower.view(Tick(2_000)), "v0.1").artifact.as_ref().unwrap().sha256, hash_of("three"));
    // Without the file the catalog's artifact is not what was asked for: what serves goes on.
    std::fs::remove_file(&file).unwrap();
    let view = take(&mut follower, &document, 3);
    let missing = intent(&view, "v0.1");
    assert!(missing.artifact.is_none() && missing.override_file.is_some());
    assert!(matches!(&missing.blocked, Some(Reason::Unservable { detail }) if detail.contains(file.as_str())));
}

#[test]
fn upstream_s_variables_name_a_file_and_force_a_name() {
    let (_guard, path) = folder();
    let (one, two) = (path.join("one"), path.join("two"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two").unwrap();
    let env = [
        ("VERSIOND_OVERRIDE_v0_1", one.as_str()),
        ("VERSIOND_OVERRIDE_v0_9_1", two.as_str()),
        ("VERSIOND_FORCE", "v0.9.1"),
    ];
    let mut follower = follower(&path, "", &env);
    assert!(!follower.view(Tick(0)).is_known);
    let view = take(&mut follower, &versions(1, &[("v0.1", 1), ("v0.2", 2)]), 0);
    let found = |name: &str| intent(&view, name).artifact.as_ref().unwrap().sha256;
    assert_eq!((found("v0.1"), found("v0.2"), found("v0.9.1")), (hash_of("one"), hash(2), hash_of("two")));
}

#[test]
fn denied_bytes_do_not_run_as_an_override_either() {
    let (_guard, path) = folder();
    let file = path.join("build");
    std::fs::write(&file, "one").unwrap();
    let mut follower = follower(&path, &format!("[override.\"demo/v0.1\"]\nfile = \"{file}\"\n"), &[]);
    let mut document: serde_json::Value = serde_json::from_str(&versions(1, &[("v0.1", 1)])).unwrap();
    document["deny"] = serde_json::json!([hash_of("one")]);
    let view = take(&mut follower, &document.to_string(), 0);
    let denied = intent(&view, "v0.1");
    assert!(denied.artifact.is_none());
    assert_eq!(denied.blocked, Some(Reason::Denied { sha256: hash_of("one").to_string() }));
}

#[test]
fn what_an_override_is_for_must_be_known() {
    let (_guard, path) = folder();
    let load = |overrides: &str, env: &[(&str, &str)]| {
        let file = write_settings(&path, "http://127.0.0.1:9/versions", "", &format!("{SERVICE}{overrides}"));
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        config::load(Some(&file), &env).map_err(|error| config::chain(&error)).err()
    };
    let refused = |overrides: &str, env: &[(&str, &str)], word: &str| {
        let text = load(overrides, env).unwrap_or_else(|| panic!("{overrides:?} {env:?} was taken"));
        assert!(text.contains(word), "{text}");
    };
    refused("[override.\"demo\"]\nfile = \"/a\"\n", &[], "SERVICE/VERSION");
    refused("[override.\"other/v1\"]\nfile = \"/a\"\n", &[], "[service.other]");
    refused("[override.\"demo/v0.1\"]\nfile = \"a\"\n", &[], "absolute");
    refused("[override.\"demo/v0.1\"]\nforce = true\n", &[], "override.file");
    refused("[override.\"demo/healthz\"]\nfile = \"/a\"\nforce = true\n", &[], "own paths");
    refused("", &[("VERSIOND_FORCE", "v0.2.13")], "VERSIOND_OVERRIDE_v0_2_13");
    refused("", &[("VERSIOND_FORCE", "a/b")], "VERSIOND_FORCE");
    let two = "[service.second]\nroute = \"/second/{version}\"\n";
    refused(two, &[("VERSIOND_OVERRIDE_v0_1", "/a")], "[catalog] service");
    let given = [("VERSIOND_OVERRIDE_v0_1", "/a"), ("VERSIOND_FORCE", "v0.1")];
    assert_eq!(load("", &given), None);
}
