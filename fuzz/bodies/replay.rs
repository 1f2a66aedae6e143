//! The corpus of a target through its body again: every input that a fuzzer has found worth keeping, without a
//! nightly compiler.

use std::path::Path;

/// Runs each input of `fuzz/corpus/<target>`, and says which, so that one that panics is known.
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    // Every crate of the workspace lies somewhere below the folder that has `fuzz`.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let folder = above.map(|folder| folder.join("fuzz/corpus").join(target)).find(|folder| folder.is_dir());
    let folder = folder.unwrap_or_else(|| panic!("there is no corpus of {target}"));
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "only {} inputs in {}", inputs.len(), folder.display());
    for path in inputs {
        eprintln!("{}", path.display());
        run(&std::fs::read(path).unwrap());
    }
}
