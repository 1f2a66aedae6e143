//! Every input that a fuzzer has found worth keeping, through the same body again: no nightly compiler is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../../../fuzz/bodies/answer.rs"]
mod answer;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_answer_holds() {
    replay("answer", answer::run);
}
