//! Every input that a fuzzer has found worth keeping, through the same body again: no nightly compiler is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../../../fuzz/bodies/chunks.rs"]
mod chunks;
#[path = "../../../fuzz/bodies/head.rs"]
mod head;
#[path = "../../../fuzz/bodies/proxy.rs"]
mod proxy;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_head_holds() {
    replay("head", head::run);
}

#[test]
fn the_corpus_of_chunks_holds() {
    replay("chunks", chunks::run);
}

#[test]
fn the_corpus_of_proxy_holds() {
    replay("proxy", proxy::run);
}
