//! Every input that a fuzzer has found worth keeping, through the same body again: no nightly compiler is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../fuzz/bodies/catalog.rs"]
mod catalog;

#[test]
fn the_corpus_of_catalog_holds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/catalog");
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        if catalog::run(&input) { read += 1 } else { refused += 1 }
    }
    // Every format is among them, and documents that nobody may take.
    assert!(read >= 12 && refused >= 3, "{read} read, {refused} refused");
}
