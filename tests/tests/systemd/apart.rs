//! How children are kept apart under the unit: control groups, users, credentials, with the unit's own powers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;

use supervisor_protocol::admin::{Containment, SocketOwnership, Users};

use crate::host::{HOST, SLOT, UNIT, children, installed, serving, status, until_serving};
use crate::http::get;
use crate::machine::Machine;

/// A user of the machine.
const UID: u32 = 61_234;
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_464);
const SECRET: &str = "wind-and-water";
const CHANGED: &str = "salt-and-stone";
const LOADED: &str = "dust-and-embers";

/// The control group of a process, below that of the unit.
fn group(machine: &Machine, pid: u32) -> String {
    let unit = machine.show(UNIT, "ControlGroup");
    let text = machine.run("cat", &[&format!("/proc/{pid}/cgroup")]);
    let group = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    group.strip_prefix(&unit).unwrap_or_else(|| panic!("{group} is not below {unit}")).to_owned()
}

/// F40: versiond is in a leaf of what was delegated to it, each generation in a group of its own, which is gone with
/// its last process.
#[test]
fn f40_each_generation_has_a_control_group_below_the_unit_and_versiond_a_leaf() {
    let Some(machine) = serving("") else { return };
    let (status, generation) = until_serving(&machine);
    assert_eq!(status.isolation.processes, Containment::Cgroup, "{:?}", status.isolation);
    let main = machine.show(UNIT, "MainPID").parse().unwrap();
    assert_eq!(group(&machine, main), "/supervisor");
    let own = format!("/demo.{SLOT}.{}", generation.generation);
    assert_eq!(group(&machine, generation.pid.unwrap()), own);
    assert_eq!(children(&machine), [generation.pid.unwrap()]);
    // As the unit's own check before the start has said.
    let checked = machine.run("journalctl", &["--unit", UNIT, "--no-pager", "--output", "cat"]);
    let line = checked.lines().skip_while(|line| line.trim() != "Isolation").nth(1).unwrap_or_default();
    assert!(line.trim().starts_with("cgroups, "), "{checked}");

    machine.run("systemctl", &["restart", UNIT]);
    let (_, next) = until_serving(&machine);
    assert_eq!(group(&machine, next.pid.unwrap()), format!("/demo.{SLOT}.{}", next.generation));
    let unit = machine.show(UNIT, "ControlGroup");
    assert!(!machine.path(&format!("/sys/fs/cgroup{unit}{own}")).exists(), "{own} is left over");
}

/// F42: a child has its user's identity; its credentials are files that it alone can read, and are in no argument,
/// environment, log or state; a changed one is used from the next start on.
#[test]
fn f42_a_child_has_its_own_user_and_credentials_that_nobody_else_can_read() {
    let service = "[service.demo]\nuser = \"keeper\"\n\
        credentials = { warm_key = \"/etc/versiond/warm.key\", loaded = \"systemd:loaded\" }\n";
    let Some(machine) = installed("") else { return };
    let settings = fs::read_to_string(machine.path("/etc/versiond/versiond.toml")).unwrap();
    let settings = settings.replace("[service.demo]\n", service);
    machine.write(
        "/etc/versiond/versiond.toml",
        &settings.replace("metrics = \"none\"", &format!("metrics = \"{METRICS}\"")),
    );
    for (file, line) in
        [("/etc/passwd", format!("keeper:x:{UID}:{UID}::/:/bin/false")), ("/etc/group", format!("keeper:x:{UID}:"))]
    {
        let text = fs::read_to_string(machine.path(file)).unwrap();
        machine.write(file, &format!("{text}{line}\n"));
    }
    machine.write("/etc/versiond/warm.key", SECRET);
    machine.write("/etc/versiond/loaded.key", LOADED);
    machine.run("chmod", &["600", "/etc/versiond/warm.key", "/etc/versiond/loaded.key"]);
    machine.write(
        "/etc/systemd/system/versiond.service.d/credentials.conf",
        "[Service]\nLoadCredential=loaded:/etc/versiond/loaded.key\n",
    );
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["start", UNIT]);
    let (status, generation) = until_serving(&machine);
    let isolation = &status.isolation;
    assert_eq!((isolation.users, isolation.socket_ownership), (Users::Separate, SocketOwnership::Verified));
    let pid = generation.pid.unwrap();
    let hello = machine.in_its_network(async || get(HOST, &format!("/{SLOT}/hello")).await.unwrap().status);
    assert_eq!(hello, 200);
    // Without the power to pass over permissions, its metrics are read as its user.
    let metrics = machine.in_its_network(async || get(METRICS, "/metrics").await.unwrap().text());
    let up = format!(
        "versiond_child_metrics_up{{service=\"demo\",version=\"{SLOT}\",generation=\"{}\"}} 1\n",
        generation.generation.0
    );
    assert!(metrics.contains(&up), "{up}: {metrics}");

    let told = machine.run("cat", &[&format!("/proc/{pid}/status")]);
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:"), [UID.to_string(), UID.to_string(), UID.to_string(), UID.to_string()].join("\t"));
    assert_eq!((field("CapEff:").as_str(), field("NoNewPrivs:").as_str()), ("0000000000000000", "1"));

    let folder = credentials(&machine, pid);
    assert_eq!(machine.run("stat", &["--file-system", "--format", "%T", &folder]).trim(), "tmpfs");
    for (name, secret) in [("warm_key", SECRET), ("loaded", LOADED)] {
        let path = format!("{folder}/{name}");
        assert_eq!(fs::read_to_string(machine.path(&path)).unwrap(), secret);
        let file = fs::metadata(machine.path(&path)).unwrap();
        assert_eq!((file.uid(), file.mode() & 0o777), (UID, 0o400));
    }
    assert_eq!(fs::metadata(machine.path(&folder)).unwrap().mode() & 0o077, 0);
    let data = fs::metadata(machine.path(&format!("/var/lib/versiond/data/demo/{SLOT}"))).unwrap();
    assert_eq!((data.uid(), data.mode() & 0o077), (UID, 0));

    machine.write("/etc/versiond/warm.key", CHANGED);
    machine.run("chmod", &["600", "/etc/versiond/warm.key"]);
    machine.run("systemctl", &["restart", UNIT]);
    let (status, next) = until_serving(&machine);
    assert!(!machine.path(&folder).exists(), "{folder} is left over");
    let again = credentials(&machine, next.pid.unwrap());
    assert_eq!(fs::read_to_string(machine.path(&format!("{again}/warm_key"))).unwrap(), CHANGED);

    let process = |file: &str| machine.run("cat", &[&format!("/proc/{}/{file}", next.pid.unwrap())]);
    let state = machine.run("find", &["/var/lib/versiond", "-name", "ledger*", "-exec", "cat", "{}", "+"]);
    assert!(!state.is_empty());
    let shown = serde_json::to_string(&status).unwrap();
    for text in [process("cmdline"), process("environ"), state, shown, machine.journal()] {
        let leaked = [SECRET, CHANGED, LOADED].iter().find(|secret| text.contains(**secret));
        assert_eq!(leaked, None, "{text}");
    }
    machine.run("systemctl", &["stop", UNIT]);
    assert!(!machine.path("/run/versiond").exists());
}

/// The folder that the process was told of.
fn credentials(machine: &Machine, pid: u32) -> String {
    let environment = machine.run("cat", &[&format!("/proc/{pid}/environ")]);
    let folder = environment.split('\0').find_map(|pair| pair.strip_prefix("CREDENTIALS_DIRECTORY="));
    folder.unwrap_or_else(|| panic!("{environment}")).to_owned()
}

/// What the configuration asks for and the unit does not give is not started, and says why.
#[test]
fn f42_without_the_powers_a_service_with_credentials_is_not_started_and_says_why() {
    let Some(machine) = installed("") else { return };
    let settings = fs::read_to_string(machine.path("/etc/versiond/versiond.toml")).unwrap();
    let service = "[service.demo]\nuser = \"nobody\"\ncredentials = { key = \"/etc/versiond/versiond.toml\" }\n";
    let settings = settings.replace("[service.demo]\n", service);
    machine.write(
        "/etc/versiond/versiond.toml",
        &settings.replace("metrics = \"none\"", &format!("metrics = \"{METRICS}\"")),
    );
    machine.write("/etc/systemd/system/versiond.service.d/less.conf", "[Service]\nCapabilityBoundingSet=\n");
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["start", UNIT]);
    machine.until_true("the reason is shown", || {
        machine.output("versionctl", &["why", "--json"]).0.contains("isolation_missing")
    });
    let status = status(&machine).unwrap();
    assert_eq!(status.isolation.users, Users::None);
    assert!(status.isolation.remarks.iter().any(|remark| remark.contains("CAP_SETUID")), "{:?}", status.isolation);
    assert!(children(&machine).is_empty());
}
