//! `versionctl conformance` on programs that break the contract. What keeps it is checked where a
//! program that keeps it is built: in the demo child's tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

fn script(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    // Another process writes it: were the file open here for a moment, a process that another test forks at that
    // moment would hold it open too, and nobody could execute it (ETXTBSY).
    let path = folder.path().join("program");
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    assert!(Command::new("sh").arg("-c").arg(write).arg(&path).arg(text).status().unwrap().success());
    path
}

/// The exit code, and the result and detail of one check.
fn conformance(program: &std::path::Path, check: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_versionctl"));
    command.args(["conformance", "--json", "--ready-within", "300ms"]).arg(program);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|row| row["name"] == check).unwrap_or_else(|| panic!("no check {check}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (output.status.code(), text("result"), text("detail"))
}

#[test]
fn a_program_that_knows_nothing_of_it_fails_and_the_report_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let hello = script(&folder, "#!/bin/sh\necho hello\n");
    for check in ["describe", "unknown_flag", "ready"] {
        let (code, result, detail) = conformance(&hello, check);
        assert_eq!((code, result.as_str()), (Some(1), "fails"), "{check}: {detail}");
    }
    assert!(conformance(&hello, "ready").2.contains("hello"), "what it printed is shown");
    assert_eq!(conformance(&hello, "drain").1, "not_applicable");
}

#[test]
fn a_newer_contract_and_a_program_that_is_never_ready_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(
        &folder,
        "#!/bin/sh\ncase \"$1\" in\n\
         --describe) echo '{\"contract\":2,\"name\":\"x\",\"version\":\"1\",\"state\":\"none\"}';;\n\
         --port) exec sleep 60;;\n\
         *) echo \"unknown flag $1\" >&2; exit 64;;\nesac\n",
    );
    let (code, result, _) = conformance(&program, "contract");
    assert_eq!((code, result.as_str()), (Some(1), "fails"));
    for (check, expected) in [("describe", "holds"), ("unknown_flag", "holds"), ("ready", "fails")] {
        assert_eq!(conformance(&program, check).1, expected, "{check}");
    }
}

#[test]
fn a_program_that_is_not_there_fails() {
    let (code, result, detail) = conformance(std::path::Path::new("/nowhere/program"), "describe");
    assert_eq!((code, result.as_str()), (Some(1), "fails"), "{detail}");
}
