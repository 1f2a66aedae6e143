//! The life of the unit: started, stopped in the middle of work, restarted, reloaded, killed.

use crate::host::{HOST, SLOT, UNIT, children, installed, serving, status, until_serving};
use crate::http::{EventStream, get};

/// F29: `systemctl stop` returns when the work has come to its end, and systemd has had nothing to kill.
#[test]
fn f29_a_stop_in_mid_stream_lets_the_stream_finish() {
    let Some(machine) = installed("") else { return };
    // Type=notify: the command returns once versiond has said that it is ready.
    machine.run("systemctl", &["start", UNIT]);
    assert_eq!(machine.show(UNIT, "ActiveState"), "active");
    until_serving(&machine);
    machine.until(UNIT, "StatusText", "serving");

    machine.in_its_network(async || {
        let stream = EventStream::open(HOST, &format!("/{SLOT}"), 4_000).await;
        machine.run("systemctl", &["stop", "--no-block", UNIT]);
        machine.until(UNIT, "StatusText", "draining");
        assert_eq!(machine.show(UNIT, "ActiveState"), "deactivating");
        stream.finish().await.unwrap();
    });
    machine.until(UNIT, "ActiveState", "inactive");
    assert_eq!(
        (machine.show(UNIT, "Result").as_str(), machine.show(UNIT, "ExecMainStatus").as_str()),
        ("success", "0")
    );
    assert!(!machine.journal().contains("SIGKILL"), "{}", machine.journal());
}

#[test]
fn a_restart_lets_a_stream_finish_and_serves_again() {
    let Some(machine) = serving("") else { return };
    let before = until_serving(&machine);
    machine.in_its_network(async || {
        let stream = EventStream::open(HOST, &format!("/{SLOT}"), 3_000).await;
        machine.run("systemctl", &["restart", "--no-block", UNIT]);
        stream.finish().await.unwrap();
    });
    machine.until_true("another versiond runs", || status(&machine).is_some_and(|status| status.boot != before.0.boot));
    let after = until_serving(&machine);
    assert!(!machine.has_process(before.1.pid.unwrap()));
    assert!(after.1.generation > before.1.generation);
    // An operator's restart is none of systemd's own.
    assert_eq!(machine.show(UNIT, "NRestarts"), "0");
    let hello = machine.in_its_network(async || get(HOST, &format!("/{SLOT}/hello")).await.unwrap().status);
    assert_eq!(hello, 200);
}

#[test]
fn a_reload_ends_nothing() {
    let Some(machine) = serving("") else { return };
    let (before, generation) = until_serving(&machine);
    machine.in_its_network(async || {
        let stream = EventStream::open(HOST, &format!("/{SLOT}"), 2_000).await;
        machine.run("systemctl", &["reload", UNIT]);
        stream.finish().await.unwrap();
    });
    let (after, same) = until_serving(&machine);
    assert_eq!((after.boot, same.generation, same.pid), (before.boot, generation.generation, generation.pid));
    assert_eq!(machine.show(UNIT, "ActiveState"), "active");
}

/// F40, F41: the main process is killed; systemd starts another, which finds nothing left over and serves again.
#[test]
fn f40_f41_systemd_restarts_a_killed_versiond_and_nothing_is_left_over() {
    let Some(machine) = serving("") else { return };
    let (before, generation) = until_serving(&machine);
    let left = children(&machine);
    assert!(left.contains(&generation.pid.unwrap()), "{left:?}");
    machine.run("systemctl", &["kill", "--signal", "KILL", "--kill-whom", "main", UNIT]);
    machine.until(UNIT, "NRestarts", "1");
    machine.until_true("another versiond runs", || status(&machine).is_some_and(|status| status.boot != before.boot));
    let (after, second) = until_serving(&machine);
    assert!(left.iter().all(|pid| !machine.has_process(*pid)), "of {left:?}");
    assert_eq!(children(&machine), [second.pid.unwrap()]);
    assert!(second.generation > generation.generation);
    assert_eq!(after.slots.len(), 1);
    let hello = machine.in_its_network(async || get(HOST, &format!("/{SLOT}/hello")).await.unwrap().status);
    assert_eq!(hello, 200);
}
