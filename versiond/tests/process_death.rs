//! The supervisor is killed: what dies with it, what the next one sweeps, and whom it must not touch.
//!
//! The supervisor that dies is this test program, run again with a variable set. No test here may start
//! a spawner of its own: it would adopt the processes of the others.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process_support::{SOON, is_alive, nonce, read_number, until};
use versiond::process::sweep::{SweepReport, Target, sweep};
use versiond::process::{Account, BootId, ProcessId};

const FOLDER: &str = "TEST_SUPERVISOR_FOLDER";

/// Not a test but the supervisor that the tests kill.
#[tokio::test]
async fn helper_supervisor() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let spawner = process_support::quiet_spawner();
    let mut spec = process_support::sh(
        "sleep 1000 & echo $! >member; setsid sleep 1000 & echo $! >escaped; echo $$ >leader; exec sleep 1000",
    );
    spec.cwd = folder.clone();
    let unreleased = spawner.prepare(process_support::sh("true")).await.unwrap();
    std::fs::write(folder.join("unreleased"), process_support::pid(&unreleased).to_string()).unwrap();
    // A change of user unties a process from its parent; the launcher ties it again.
    let mut other = process_support::sh("exec sleep 1000");
    if nix::unistd::geteuid().is_root() {
        other.confine.account = Some(Account::new(61_234.into(), 61_234.into(), []));
    }
    let other = spawner.prepare(other).await.unwrap();
    std::fs::write(folder.join("other"), process_support::pid(&other).to_string()).unwrap();
    let _other = other.release().await.unwrap();
    let child = spawner.prepare(spec).await.unwrap();
    std::fs::write(folder.join("identity"), serde_json::to_vec(child.identity()).unwrap()).unwrap();
    let _child = child.release().await.unwrap();
    std::future::pending::<()>().await;
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start_supervisor(folder: &Path) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_supervisor", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::null());
    Ended(command.spawn().unwrap())
}

#[tokio::test]
async fn f40_a_killed_supervisor_takes_its_children_along_and_the_next_sweeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let number = |name: &str| read_number(&folder.path().join(name));
    let mut supervisor = start_supervisor(folder.path());
    until("the processes run", || {
        ["leader", "member", "escaped", "unreleased", "other"].iter().all(|name| number(name).is_some())
    })
    .await;
    let [leader, member, escaped, unreleased, other] =
        ["leader", "member", "escaped", "unreleased", "other"].map(|name| number(name).unwrap());
    let session = || nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(escaped))).map(nix::unistd::Pid::as_raw);
    until("one has left the session", || session() == Ok(escaped)).await;

    supervisor.0.kill().unwrap();
    supervisor.0.wait().unwrap();
    let dead = || [leader, unreleased, other].iter().all(|pid| !is_alive(*pid));
    until("leader and launcher die with it, whatever user they have", dead).await;
    assert!(is_alive(member) && is_alive(escaped), "only the kernel's signal to the leader has come so far");

    let identity: ProcessId = serde_json::from_slice(&std::fs::read(folder.path().join("identity")).unwrap()).unwrap();
    let target = Target { nonce: identity.nonce.clone(), process: Some(identity) };
    let swept = swept(vec![target.clone()]).await;
    assert_eq!(swept, [member, escaped].into_iter().collect());
    assert!(!is_alive(member) && !is_alive(escaped));
    assert_eq!(sweep(&[target], SOON).unwrap(), SweepReport::default(), "a second sweep finds nothing");
}

async fn swept(targets: Vec<Target>) -> std::collections::BTreeSet<i32> {
    let report = tokio::task::spawn_blocking(move || sweep(&targets, SOON)).await.unwrap().unwrap();
    report.killed.iter().map(|swept| swept.pid).collect()
}

#[tokio::test]
async fn f47_a_reused_number_is_nobody_of_ours() {
    use std::os::unix::process::CommandExt as _;
    let ours = nonce();
    let start = |nonce: Option<&str>| {
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).env_clear();
        command.envs(nonce.map(|nonce| ("SUPERVISOR_NONCE", nonce)));
        Ended(command.spawn().unwrap())
    };
    let stranger = start(None);
    let anothers = start(Some("anothers"));
    let mine = start(Some(ours.as_str()));
    let id = |child: &Ended| ProcessId::of(i32::try_from(child.0.id()).unwrap(), ours.clone()).unwrap();
    let recorded = |process: ProcessId| Target { nonce: nonce(), process: Some(process) };

    // The number is right, and with it all but one of what else must be.
    let right = id(&mine);
    let spared = [
        recorded(id(&stranger)),
        recorded(id(&anothers)),
        recorded(ProcessId { start_ticks: right.start_ticks + 1, ..right.clone() }),
        recorded(ProcessId { boot_id: BootId::from_record("another boot"), ..right.clone() }),
        recorded(ProcessId { nonce: nonce(), ..right.clone() }),
    ];
    assert_eq!(swept(spared.to_vec()).await, std::collections::BTreeSet::new());
    for child in [&stranger, &anothers, &mine] {
        assert!(is_alive(id(child).pid));
    }

    // With all of them right it goes: first as the recorded leader alone, whatever else the target says.
    assert_eq!(swept(vec![recorded(right.clone())]).await, [right.pid].into());
    assert!(!is_alive(right.pid));
    let again = start(Some(ours.as_str()));
    let by_nonce = Target { nonce: ours.clone(), process: None };
    assert_eq!(swept(vec![by_nonce]).await, [id(&again).pid].into());
    assert!(is_alive(id(&stranger).pid) && is_alive(id(&anothers).pid));
}

#[test]
fn a_sweep_spares_the_sweeper_and_its_parents() {
    // As a supervisor that runs under another one and was given its nonce.
    let mut command = Command::new(std::env::current_exe().unwrap());
    let nonce = nonce();
    command.args(["--exact", "helper_sweeper", "--nocapture"]).env("SUPERVISOR_NONCE", nonce.as_str());
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

/// Not a test but the sweeper of the one above.
#[test]
fn helper_sweeper() {
    let Ok(nonce) = std::env::var("SUPERVISOR_NONCE") else { return };
    let target = Target { nonce: nonce.parse().unwrap(), process: None };
    assert_eq!(sweep(&[target], Duration::from_secs(5)).unwrap(), SweepReport::default());
}
