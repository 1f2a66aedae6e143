//! Every input that a fuzzer has found worth keeping, through the same body again: no nightly compiler is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../../fuzz/bodies/admin.rs"]
mod admin;
#[path = "../../fuzz/bodies/archive.rs"]
mod archive;
#[path = "../../fuzz/bodies/config.rs"]
mod config;
#[path = "../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

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
