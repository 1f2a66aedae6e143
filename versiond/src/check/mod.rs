//! `versiond check`: validates without binding anything, shows every value with its origin and the time
//! budget, and says what will not work on this machine and how to mend it.

mod machine;
mod report;

use std::io::Write;
use std::process::ExitCode;

use camino::Utf8Path;
use versiond_core::budget::{self, Budget};
use versiond_core::catalog::UrlRules;

use self::machine::Machine;
use crate::config::{self, CatalogSource, Config, Env, PortRange, chain};
use crate::isolation::Remark;

/// Descriptors below which a host under load runs out: each request takes two.
const DESCRIPTORS: u64 = 8_192;
/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// What is added to `state_dir` for the socket of a child.
const CHILD_SOCKET: usize = "/run/g18446744073709551615/notify.sock".len();

/// The command. 0: everything will work, perhaps with warnings; 1: refused.
pub fn main(path: Option<&Utf8Path>, env: &Env) -> ExitCode {
    let (text, code) = match config::read(path, env) {
        Ok(config) => {
            let report = check(&config);
            let code = if report.is_refused() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            (report.to_string(), code)
        }
        Err(error) => (format!("refused: {}\n", chain(&error)), ExitCode::FAILURE),
    };
    // Nobody is left to tell when the reader of the report is gone.
    std::io::stdout().write_all(text.as_bytes()).ok();
    code
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Refused,
    Warning,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Budget,
    LoweredGuard,
    NoService,
    CatalogAddress,
    CatalogFile,
    CatalogAuthority,
    PlainHttp,
    PortsOverlapEphemeral,
    PortsOverlapListener,
    SameAddress,
    Descriptors,
    StateDir,
    AdminSocket,
    SocketPath,
    Command,
    Isolation,
    Environment,
    NoExec,
    Devices,
    Group,
    Token,
}

/// One thing that will not work, or may surprise, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub topic: Topic,
    pub what: String,
    pub mend: String,
}

/// Everything that a check found.
#[derive(Debug, Clone)]
pub struct Report {
    pub settings: Vec<config::Setting>,
    pub budget: Budget,
    /// How children are kept apart here.
    pub isolation: String,
    /// Refusals first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether versiond cannot run like this.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Refused)
    }
}

/// Checks a configuration against its own inequalities and this machine.
#[must_use]
pub fn check(config: &Config) -> Report {
    judge(config, &Machine::look(config))
}

fn judge(config: &Config, machine: &Machine) -> Report {
    let mut findings = Vec::new();
    let mut find = |severity, topic, what: String, mend: &str| {
        findings.push(Finding { severity, topic, what, mend: mend.to_owned() });
    };
    use Severity::{Refused, Warning};
    for violation in budget::check(&config.timing) {
        find(Refused, Topic::Budget, violation.to_string(), "change one of the two in [timing] or [host]");
    }
    let default = Budget::default();
    for (key, value, usual) in [
        ("host_drain_min", config.timing.host_drain_min, default.host_drain_min),
        ("detection", config.timing.detection, default.detection),
    ] {
        if value < usual {
            let what = format!("{key} = {} is below {}", budget::Span(value), budget::Span(usual));
            find(Warning, Topic::LoweredGuard, what, "right for a trial; in production work may be cut or refused");
        }
    }
    if config.services.is_empty() {
        find(Warning, Topic::NoService, "no service is configured".to_owned(), "add a [service.NAME]");
    }
    catalog(config, machine, &mut find);
    listeners(config, machine, &mut find);
    if let Some(descriptors) = machine.descriptors.filter(|descriptors| *descriptors < DESCRIPTORS) {
        let what = format!("{descriptors} descriptors may be open, {DESCRIPTORS} are advisable");
        find(Warning, Topic::Descriptors, what, "raise LimitNOFILE in the unit, or ulimit -n");
    }
    if let Err(why) = &machine.state_dir {
        let what = format!("{} cannot be written: {why}", config.host.state_dir);
        find(Refused, Topic::StateDir, what, "make it and give it to versiond's user, or set [host] state_dir");
    }
    if let Err(why) = &machine.admin_dir {
        let what = format!("{} cannot be made: {why}", config.host.admin);
        find(Refused, Topic::AdminSocket, what, "make its folder (RuntimeDirectory=versiond), or set [host] admin");
    }
    host(config, machine, &mut find);
    let longest = config.host.admin.as_str().len().max(config.host.state_dir.as_str().len() + CHILD_SOCKET);
    if longest > SOCKET_PATH {
        let what = format!("a socket's path would have {longest} bytes, the kernel takes {SOCKET_PATH}");
        find(Refused, Topic::SocketPath, what, "shorten [host] state_dir or admin");
    }
    for what in &machine.commands {
        let mend = "install it or correct the path; a pinned hash is what the file must have now";
        find(Warning, Topic::Command, what.clone(), mend);
    }
    for Remark { what, mend } in &machine.isolation.1 {
        find(Warning, Topic::Isolation, what.clone(), mend);
    }
    for remark in &config.remarks {
        find(Warning, Topic::Environment, remark.clone(), "unset it");
    }
    findings.sort_by_key(|finding| finding.severity);
    Report {
        settings: config.settings.clone(),
        budget: config.timing.clone(),
        isolation: machine.isolation.0.clone(),
        findings,
    }
}

fn host(config: &Config, machine: &Machine, find: &mut impl FnMut(Severity, Topic, String, &str)) {
    use Severity::{Refused, Warning};
    if machine.memory_noexec {
        let what = "the kernel executes no sealed memory (vm.memfd_noexec = 2), which every child is".to_owned();
        find(Refused, Topic::NoExec, what, "sysctl vm.memfd_noexec=1");
    }
    if machine.noexec {
        let what = format!(
            "{} is mounted noexec: programs above 512 MiB, which run from there, cannot",
            config.host.state_dir
        );
        find(Warning, Topic::NoExec, what, "mount it with exec, or set [host] state_dir");
    }
    if !machine.missing_devices.is_empty() {
        let what = format!("a service asks for a GPU, and {} is not here", machine.missing_devices.join(", "));
        let mend = "load the driver (nvidia-modprobe -u -c 0), and let the unit see the devices (gpu.conf)";
        find(Warning, Topic::Devices, what, mend);
    }
    for (key, group) in &machine.unknown_groups {
        let what = format!("[host] {key} = {group:?}: there is no such group on this machine");
        find(Refused, Topic::Group, what, "groupadd --system it, or name another");
    }
    if let (Some(tcp), Err(why)) = (&config.host.admin_tcp, &machine.token_file) {
        let what = format!("[host] admin_token_file {}: {why}", tcp.token_file);
        find(Refused, Topic::Token, what, "umask 077; head -c 32 /dev/urandom | base64 > FILE");
    }
}

fn catalog(config: &Config, machine: &Machine, find: &mut impl FnMut(Severity, Topic, String, &str)) {
    use Severity::{Refused, Warning};
    match &config.catalog.source {
        CatalogSource::Nowhere => return,
        CatalogSource::File(path) => {
            if let Err(why) = &machine.catalog_file {
                let what = format!("the catalog {path} cannot be read: {why}");
                find(Warning, Topic::CatalogFile, what, "until it can, versiond runs what it kept from before");
            }
        }
        CatalogSource::Cosmovisor(home) => {
            if let Err(why) = &machine.catalog_file {
                let what = format!("{home}/cosmovisor cannot be read: {why}");
                find(Warning, Topic::CatalogFile, what, "until it can, versiond runs what it kept from before");
            }
        }
        CatalogSource::Http(url) => {
            let rules = config.catalog.url_rules();
            let strict = UrlRules { http: false, ..rules };
            match (rules.check(url.as_str()), strict.check(url.as_str())) {
                (Ok(()), Ok(())) => {}
                (Ok(()), Err(_)) => {
                    let what = "the catalog comes over plain http: whoever is on the way decides what runs".to_owned();
                    find(Warning, Topic::PlainHttp, what, "use https");
                }
                (Err(refusal), _) => {
                    let mend = "use https and a public address, or set [catalog] allow_http or allow_private where the network is trusted";
                    find(Refused, Topic::CatalogAddress, format!("[catalog] source: {refusal}"), mend);
                }
            }
        }
    }
    for given in config.catalog.overrides.iter().filter(|given| !given.file.is_file()) {
        let what = format!("the override {} is no file", given.file);
        find(Warning, Topic::CatalogFile, what, "until it is one, what serves in its slot goes on");
    }
    if config.catalog.trust_key.is_none() {
        let what = "the catalog is not signed: authority is whoever controls its source".to_owned();
        find(
            Warning,
            Topic::CatalogAuthority,
            what,
            "set [catalog] trust_key, or keep write access to the source as narrow as root here",
        );
    }
}

fn listeners(config: &Config, machine: &Machine, find: &mut impl FnMut(Severity, Topic, String, &str)) {
    use Severity::{Refused, Warning};
    let ports: PortRange = config.host.child_ports;
    if let Some((low, high)) = machine.ephemeral.filter(|(low, high)| ports.first() <= *high && *low <= ports.last()) {
        let what = format!("child_ports {ports} overlaps {low}-{high}, from which the kernel gives out ports");
        let mend = "choose another range, or reserve it: sysctl net.ipv4.ip_local_reserved_ports";
        find(Warning, Topic::PortsOverlapEphemeral, what, mend);
    }
    let addresses = [
        ("listen", Some(config.host.listen)),
        ("status_listen", config.host.status_listen),
        ("metrics", config.host.metrics),
        ("admin_tcp", config.host.admin_tcp.as_ref().map(|tcp| tcp.address)),
    ];
    let mut seen: Vec<(&str, std::net::SocketAddr)> = Vec::new();
    for (key, address) in addresses.into_iter().filter_map(|(key, address)| Some((key, address?))) {
        let port = address.port();
        if (ports.first()..=ports.last()).contains(&port) {
            let what = format!("[host] {key} = {address} lies in child_ports {ports}");
            find(Refused, Topic::PortsOverlapListener, what, "move one of them");
        }
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == address && port != 0) {
            let what = format!("[host] {key} and {other} are both {address}");
            find(Refused, Topic::SameAddress, what, "give each its own port");
        }
        seen.push((key, address));
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use supervisor_protocol::admin::Isolation as Shown;

    use super::machine::writable;
    use super::*;

    fn config(toml: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("versiond.toml");
        std::fs::write(&path, toml).unwrap();
        let path = Utf8PathBuf::from_path_buf(path).unwrap();
        config::read(Some(&path), &Env::new()).unwrap()
    }

    fn sound() -> Machine {
        Machine {
            ephemeral: Some((32_768, 60_999)),
            descriptors: Some(65_536),
            state_dir: Ok(()),
            admin_dir: Ok(()),
            catalog_file: Ok(()),
            noexec: false,
            memory_noexec: false,
            missing_devices: Vec::new(),
            unknown_groups: Vec::new(),
            token_file: Ok(()),
            commands: Vec::new(),
            isolation: (Shown::least().to_string(), Vec::new()),
        }
    }

    fn topics(toml: &str, machine: &Machine) -> Vec<(Severity, Topic)> {
        let report = judge(&config(toml), machine);
        let topics = report.findings.iter().map(|finding| (finding.severity, finding.topic));
        topics.filter(|(_, topic)| *topic != Topic::CatalogAuthority).collect()
    }

    const HOST: &str = "[host]\nid = \"h\"\n";
    const REST: &str = "[catalog]\nsource = \"https://a.example/versions\"\n[service.demo]\nroute = \"/{version}\"\n";

    #[test]
    fn a_sound_host_has_nothing_to_mend() {
        assert_eq!(topics(&format!("{HOST}{REST}"), &sound()), []);
    }

    #[test]
    fn what_will_not_work_here_is_found() {
        use Severity::{Refused, Warning};
        let with = |change: &dyn Fn(&mut Machine)| {
            let mut machine = sound();
            change(&mut machine);
            topics(&format!("{HOST}{REST}"), &machine)
        };
        assert_eq!(with(&|m| m.ephemeral = Some((1024, 20_000))), [(Warning, Topic::PortsOverlapEphemeral)]);
        assert_eq!(with(&|m| m.ephemeral = Some((21_000, 60_999))), []);
        assert_eq!(with(&|m| m.descriptors = Some(1_024)), [(Warning, Topic::Descriptors)]);
        assert_eq!(with(&|m| m.state_dir = Err("read-only".to_owned())), [(Refused, Topic::StateDir)]);
        assert_eq!(with(&|m| m.commands = vec!["gone".to_owned()]), [(Warning, Topic::Command)]);
        assert_eq!(with(&|m| m.admin_dir = Err("read-only".to_owned())), [(Refused, Topic::AdminSocket)]);
        assert_eq!(with(&|m| m.noexec = true), [(Warning, Topic::NoExec)]);
        assert_eq!(with(&|m| m.memory_noexec = true), [(Refused, Topic::NoExec)]);
        assert_eq!(with(&|m| m.missing_devices = vec!["/dev/nvidiactl".to_owned()]), [(Warning, Topic::Devices)]);
        assert_eq!(with(&|m| m.unknown_groups = vec![("readers", "x".to_owned())]), [(Refused, Topic::Group)]);
        let host = |more: &str| topics(&format!("{HOST}{more}{REST}"), &sound());
        assert_eq!(host("listen = \"0.0.0.0:20500\"\n"), [(Refused, Topic::PortsOverlapListener)]);
        assert_eq!(host("metrics = \"0.0.0.0:8080\"\n"), [(Refused, Topic::SameAddress)]);
        let long = format!("state_dir = \"/{}\"\n", "s".repeat(90));
        assert_eq!(host(&long), [(Refused, Topic::SocketPath)]);
        assert_eq!(
            topics(&format!("{HOST}[catalog]\nsource = \"http://a.example/v\"\n"), &sound()),
            [(Refused, Topic::CatalogAddress), (Warning, Topic::NoService),]
        );
        let plain = format!("{HOST}[catalog]\nallow_http = true\nsource = \"http://a.example/v\"\n[service.d]\n");
        assert_eq!(topics(&plain, &sound()), [(Warning, Topic::PlainHttp)]);
        let near = format!("{HOST}[catalog]\nsource = \"http://127.0.0.1:1/v\"\n[service.d]\n");
        assert_eq!(topics(&near, &sound()), []);
    }

    /// F34: a report shows the broken inequality, and the daemon's own reading refuses it.
    #[test]
    fn f34_a_broken_budget_is_refused_and_a_lowered_guard_is_named() {
        let short = format!("[host]\nid = \"h\"\nshutdown_budget = \"5m\"\n{REST}");
        assert_eq!(topics(&short, &sound()), [(Severity::Refused, Topic::Budget)]);
        let lowered = format!(
            "[host]\nid = \"h\"\nshutdown_budget = \"20s\"\n{REST}[timing]\nannounce = \"none\"\nstop_grace = \"5s\"\nhost_drain_min = \"1s\"\n"
        );
        assert_eq!(topics(&lowered, &sound()), [(Severity::Warning, Topic::LoweredGuard)]);
        assert!(judge(&config(&short), &sound()).to_string().contains("NO  min(drain"));
    }

    #[test]
    fn a_token_that_others_may_read_and_a_gpu_that_is_not_here_are_found_on_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let token = Utf8PathBuf::from_path_buf(folder.path().join("token")).unwrap();
        let toml = format!(
            "{HOST}operators = \"no-such-group\"\nadmin_tcp = \"127.0.0.1:9465\"\nadmin_token_file = \"{token}\"\n{REST}gpu = [\"4000000\"]\n"
        );
        let look = || Machine::look(&config(&toml));
        assert!(look().token_file.is_err());
        std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
        let mode = |mode| std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(look().token_file.is_err());
        mode(0o600);
        assert_eq!(look().token_file, Ok(()));
        assert!(look().missing_devices.contains(&"/dev/nvidia4000000".to_owned()));
        assert_eq!(look().unknown_groups, [("operators", "no-such-group".to_owned())]);
        let refused = Machine { token_file: Err("it is open".to_owned()), ..sound() };
        assert_eq!(topics(&toml, &refused), [(Severity::Refused, Topic::Token)]);
    }

    #[test]
    fn a_missing_folder_is_judged_by_the_nearest_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        assert_eq!(writable(&folder.join("a/b/c")), Ok(()));
        std::fs::write(folder.join("file"), "").unwrap();
        assert!(writable(&folder.join("file/under")).is_err());
    }
}
