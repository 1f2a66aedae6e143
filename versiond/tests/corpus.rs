//! Every input that a fuzzer has found worth keeping, through the same body again: no nightly compiler is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../../fuzz/bodies/admin.rs"]
mod admin;
#[path = "../../fuzz/bodies/archive.rs"]
mod archive;
#[path = "../../fuzz/bodies/config.rs"]
mod config;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "only {} inputs in {}", inputs.len(), folder.display());
    for path in inputs {
        eprintln!("{}", path.display());
        run(&std::fs::read(path).unwrap());
    }
}

#[test]
fn the_corpus_of_config_holds() {
    replay("config", config::run);
}

#[test]
fn the_corpus_of_admin_holds() {
    replay("admin", admin::run);
}

#[test]
fn the_corpus_of_archive_holds() {
    replay("archive", archive::run);
}
