//! Keeps the invariants of the house: who may depend on whom, what a pure core may touch, and what every
//! file looks like. Reads manifests and sources; runs nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guide;
mod rules;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rules::{Manifest, Source};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn manifests() -> Vec<Manifest> {
    let root = root();
    let workspace: toml::Table = std::fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let read = |folder: &str| {
        let text = std::fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
        Manifest::parse(folder, &text)
    };
    members.iter().map(|member| read(member.as_str().unwrap())).collect()
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "only {} sources: the search is broken", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, found);
            }
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

fn none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_crate_depends_only_on_what_it_may() {
    let manifests = manifests();
    let names: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    none(manifests.iter().flat_map(|manifest| rules::dependencies(manifest, &names)));
}

#[test]
fn every_crate_opts_into_the_lints_of_the_workspace() {
    none(
        manifests().iter().filter(|manifest| !manifest.lints).map(|manifest| format!("{}: no lints", manifest.folder)),
    );
}

#[test]
fn the_cores_touch_no_clock_no_file_and_no_runtime() {
    none(sources().iter().filter(|source| rules::is_core(&source.path)).flat_map(rules::purity));
}

#[test]
fn no_source_is_longer_than_people_read() {
    none(sources().iter().filter_map(rules::length));
}

#[test]
fn every_source_begins_with_what_lives_in_it() {
    none(sources().iter().filter_map(rules::module_docs));
}

#[test]
fn no_test_is_ignored() {
    none(sources().iter().flat_map(rules::ignored));
}

#[test]
fn every_failure_mode_that_a_test_names_exists() {
    none(sources().iter().flat_map(rules::failure_modes));
}

#[test]
fn every_promise_that_is_kept_or_kept_in_part_names_tests_that_exist() {
    let specification = std::fs::read_to_string(root().join("SPECIFICATION.md"));
    let specification = specification.expect("SPECIFICATION.md says what is promised");
    let tests: BTreeSet<String> = sources().iter().flat_map(|source| rules::tests_in(&source.text)).collect();
    none(rules::promises(&specification, &tests));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_operators_guide_names_every_key_of_the_configuration() {
    let guide = "docs/operators.md";
    none(guide::differences(&read("versiond/src/config/file.rs"), (guide, &read(guide)), 40));
}

#[test]
fn the_routers_guide_names_every_key_of_its_configuration() {
    let guide = "docs/router.md";
    let shape = read("router/src/config/file.rs") + &read("router/src/config/limits.rs");
    none(guide::differences(&shape, (guide, &read(guide)), 20));
}
