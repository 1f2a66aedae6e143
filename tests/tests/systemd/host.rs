//! versiond on a machine: its configuration, its catalog, what it says of itself.

use std::net::{Ipv4Addr, SocketAddr};

use supervisor_protocol::admin::{GenerationStatus, Phase, Status};

use crate::machine::Machine;
use crate::releases::{Document, Release};

pub(crate) const UNIT: &str = "versiond.service";
pub(crate) const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The slot of every test.
pub(crate) const SLOT: &str = "v0.3";

/// What a test's machine runs. The budget is the unit's own: nothing here makes a stop shorter than it would be.
const SETTINGS: &str = r#"
[host]
id = "machine"
listen = "127.0.0.1:8080"
metrics = "none"
[catalog]
source = "file:/etc/versiond/catalog.json"
service = "demo"
poll = "100ms"
[service.demo]
route = "/{version}"
[timing]
announce = "none"
stop_grace = "1m"
"#;

/// A machine on which versiond has been installed, configured, and not started.
pub(crate) fn installed(more: &str) -> Option<Machine> {
    let machine = Machine::boot()?;
    machine.write("/etc/versiond/versiond.toml", &format!("{SETTINGS}{more}"));
    machine.write("/etc/versiond/catalog.json", &Document::of([(SLOT, program(&machine))]).text());
    Some(machine)
}

/// The same, started and serving.
pub(crate) fn serving(more: &str) -> Option<Machine> {
    let machine = installed(more)?;
    machine.run("systemctl", &["start", UNIT]);
    until_serving(&machine);
    Some(machine)
}

fn program(machine: &Machine) -> Release {
    let bytes = std::fs::read(machine.path("/usr/bin/demo-child-a")).unwrap();
    Release {
        url: "file:/usr/bin/demo-child-a".to_owned(),
        sha256: versiond_demo::artifacts::sha256(&bytes).to_string(),
    }
}

/// `/v1/status`, once the socket answers.
pub(crate) fn status(machine: &Machine) -> Option<Status> {
    let (out, _, code) = machine.output("versionctl", &["status", "--json"]);
    (code == Some(0)).then(|| serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}")))
}

/// Waits until the slot serves and nothing else is left of it.
pub(crate) fn until_serving(machine: &Machine) -> (Status, GenerationStatus) {
    let mut found = None;
    machine.until_true("the slot serves", || {
        found = status(machine).and_then(|status| {
            let [only] = &status.slots.first()?.generations[..] else { return None };
            (only.phase == Phase::Serving && only.pid.is_some()).then(|| (status.clone(), only.clone()))
        });
        found.is_some()
    });
    found.unwrap()
}

/// Every process of the unit but the main one, by its number in the machine.
pub(crate) fn children(machine: &Machine) -> Vec<u32> {
    let main = machine.show(UNIT, "MainPID");
    let group = machine.show(UNIT, "ControlGroup");
    let listed =
        machine.run("find", &[&format!("/sys/fs/cgroup{group}"), "-name", "cgroup.procs", "-exec", "cat", "{}", "+"]);
    listed.lines().filter(|pid| *pid != main).map(|pid| pid.parse().unwrap()).collect()
}
