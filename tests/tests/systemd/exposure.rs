//! What systemd says of the unit itself: that it understands every line, and how much is left open.

use crate::host::{UNIT, installed};
use crate::machine::{Machine, units};

/// The most that `systemd-analyze security` may find open, as `4.1`; without and with the GPU drop-in. A change of
/// a unit that opens more needs a reason, and another number here.
const CEILING: f64 = 3.3;
const CEILING_GPU: f64 = 3.6;

#[test]
fn systemd_understands_the_unit_and_its_exposure_stays_below_the_ceiling() {
    let Some(machine) = installed("") else { return };
    verified(&machine);
    let plain = exposure(&machine);
    assert!(plain <= CEILING, "{plain}");

    let drop_in = std::fs::read_to_string(units().join("versiond.service.d/gpu.conf")).unwrap();
    machine.write("/etc/systemd/system/versiond.service.d/gpu.conf", &drop_in);
    machine.run("systemctl", &["daemon-reload"]);
    verified(&machine);
    let gpu = exposure(&machine);
    assert!(gpu > plain && gpu <= CEILING_GPU, "{gpu}");
}

fn verified(machine: &Machine) {
    let (out, err, code) = machine.output("systemd-analyze", &["verify", "--recursive-errors=one", UNIT]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
}

fn exposure(machine: &Machine) -> f64 {
    let told = machine.run("systemd-analyze", &["security", "--no-pager", UNIT]);
    let line = told.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{told}"));
    let (_, level) = line.rsplit_once(": ").unwrap();
    level.split_whitespace().next().unwrap().parse().unwrap()
}
