//! What a process is kept in: a control group that nothing leaves, a user without powers.
//!
//! Both need root. Where a test cannot have what it needs, it says `skipped:` and why; with `VERSIOND_REQUIRE=all`
//! that is a failure.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid};
use process_support::*;
use supervisor_protocol::{Generation, SlotId};
use versiond::process::cgroup::{Limits, Tree};
use versiond::process::{Account, Confine, Signal};

/// An unprivileged user of no account, in a group and another.
const UID: u32 = 61_234;
const GID: u32 = 61_235;
const OTHER: u32 = 61_236;

fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var("VERSIOND_REQUIRE").as_deref() != Ok("all"), "required, but: {why}");
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    None
}

/// A group of this test's own in a hierarchy of version 2, as if it had been delegated.
struct Delegated {
    tree: Tree,
    folder: PathBuf,
}

impl Delegated {
    fn new(name: &str) -> Option<Delegated> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
        });
        let Some(point) = point else { return skip("no hierarchy of control groups of version 2 is mounted") };
        let folder = Path::new(point).join(format!("versiond-{name}-{}", std::process::id()));
        match std::fs::create_dir(&folder) {
            Ok(()) => Some(Delegated { tree: Tree::at(folder.clone()), folder }),
            Err(error) => skip(&format!("{point} cannot be divided: {error}")),
        }
    }

    fn confine(&self, generation: u64) -> Confine {
        let slot = SlotId { service: "demo".parse().unwrap(), name: "v1".parse().unwrap() };
        let group = self.tree.group(&slot, Generation(generation), &Limits::default()).unwrap();
        Confine { group: Some(Arc::new(group)), account: None }
    }

    fn groups(&self) -> usize {
        std::fs::read_dir(&self.folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        self.tree.sweep(SOON).unwrap();
        std::fs::remove_dir(&self.folder).unwrap();
    }
}

/// F41: a descendant that becomes a daemon, forgets the nonce and lets go of everything dies with its generation.
#[tokio::test]
async fn f41_nothing_that_a_child_forks_outlives_its_control_group() {
    let Some(delegated) = Delegated::new("daemon") else { return };
    let spawner = quiet_spawner();
    let mut spec = sh("env -i setsid sh -c 'sleep 1000 & echo $!; wait' & exec sleep 1000");
    spec.confine = delegated.confine(1);
    let child = run(&spawner, spec).await;
    let daemon = printed_number(&child).await;
    let group = std::fs::read_to_string(format!("/proc/{daemon}/cgroup")).unwrap();
    assert!(group.lines().any(|line| line.starts_with("0::") && line.ends_with("/demo.v1.g1")), "{group}");

    // The leader alone is asked to stop: the daemon hears nothing, and does not stay.
    child.signal(Signal::SIGTERM).unwrap();
    child.gone().await;
    assert!(!is_alive(daemon));
    assert_eq!(delegated.groups(), 0, "the group is removed");
}

/// F40: what a dead supervisor left is found by its groups, whatever it has become.
#[tokio::test]
async fn f40_the_groups_of_a_dead_supervisor_are_swept() {
    let Some(delegated) = Delegated::new("sweep") else { return };
    let group = delegated.confine(7).group.unwrap();
    let mut left = std::process::Command::new("sh");
    left.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec env -i sleep 1000"]).arg(group.path());
    let mut left = left.spawn().unwrap();
    until("it is in the group", || !group.is_empty().unwrap()).await;
    assert_eq!(delegated.tree.sweep(SOON).unwrap(), 1);
    assert_eq!(left.wait().unwrap().code(), None, "it was killed");
    assert_eq!(delegated.groups(), 0);
}

#[tokio::test]
async fn a_launcher_that_is_not_released_leaves_no_control_group() {
    let Some(delegated) = Delegated::new("drop") else { return };
    let mut spec = sh("true");
    spec.confine = delegated.confine(1);
    drop(quiet_spawner().prepare(spec).await.unwrap());
    until("the group is removed", || delegated.groups() == 0).await;
}

/// F42: a child with a user of its own has that user's identity and none of the supervisor's powers.
#[tokio::test]
async fn f42_a_child_with_a_user_has_none_of_the_supervisors_powers() {
    if !nix::unistd::geteuid().is_root() {
        let _: Option<()> = skip("a change of user needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&data, Some(UID), Some(GID)).unwrap();

    // It locks its directory, works in it, and opens its own output by name, as many programs do.
    let mut spec = sh("echo $$ >/dev/stderr; echo made >file; exec sleep 1000");
    spec.confine.account = Some(Account::new(Uid::from_raw(UID), Gid::from_raw(GID), [Gid::from_raw(OTHER)]));
    spec.cwd = data.clone();
    spec.lock_dir = Some(data.clone());
    let child = run(&quiet_spawner(), spec).await;
    let pid = printed_number(&child).await;
    until("it has written", || data.join("file").exists()).await;
    assert_eq!(std::fs::metadata(data.join("file")).unwrap().uid(), UID);

    let four = |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t");
    assert_eq!(status_field(pid, "Uid"), four(UID));
    assert_eq!(status_field(pid, "Gid"), four(GID));
    assert_eq!(status_field(pid, "Groups"), OTHER.to_string());
    for powers in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status_field(pid, powers), 16), Ok(0), "{powers}");
    }
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
}
