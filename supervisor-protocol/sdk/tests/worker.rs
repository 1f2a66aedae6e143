//! The example worker as a real process: paused until it is published, and never in the middle of a piece.

mod support;

use support::{Running, eventually, example};

fn journal(worker: &Running) -> (usize, usize) {
    let text = std::fs::read_to_string(worker.folder.path().join("journal")).unwrap_or_default();
    (text.matches("begin").count(), text.matches("end").count())
}

#[test]
fn a_worker_starts_paused_works_when_published_and_stops_between_pieces() {
    let mut worker = Running::start(&example("worker"), &["--piece", "30"], &[]);
    eventually("it could work", || worker.admin("GET", "/ready", "").json()["ready"] == true);
    let ready = worker.admin("GET", "/ready", "");
    assert_eq!((ready.status, worker.status()["state"].as_str()), (503, Some("drained")));
    assert_eq!(journal(&worker), (0, 0));

    assert_eq!(worker.admin("DELETE", "/drain", "").status, 200);
    eventually("it works", || journal(&worker).1 >= 2);
    worker.admin("POST", "/drain", "");
    eventually("it is drained", || worker.status()["state"] == "drained");
    let (begun, ended) = journal(&worker);
    assert_eq!(begun, ended);

    worker.admin("DELETE", "/drain", "");
    eventually("it works again", || journal(&worker).0 > begun);
    worker.signal("-TERM");
    assert_eq!(worker.wait().code(), Some(0));
    let (begun, ended) = journal(&worker);
    assert_eq!(begun, ended);
}

#[test]
fn without_a_supervisor_it_works_at_once_and_a_missing_folder_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut process =
        std::process::Command::new(example("worker")).arg("--data-dir").arg(folder.path()).spawn().unwrap();
    let journal = folder.path().join("journal");
    eventually("it works", || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("end")));
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(std::process::Command::new(example("worker")).output().unwrap().status.code(), Some(1));
}
