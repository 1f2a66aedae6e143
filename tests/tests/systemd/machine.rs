//! A machine for one test: real systemd as process 1, on an overlay of this machine's root, in namespaces of its
//! own. It is killed when it is dropped, however the test ends, and by the kernel when the test program dies.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::common::release;

/// What has not come true by then never will. Generous: the machine may be busy with other builds.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const PROGRAMS: [&str; 7] = ["setpriv", "unshare", "nsenter", "mount", "pivot_root", "systemctl", "systemd-analyze"];

/// A booted machine.
pub(crate) struct Machine {
    wrapper: Child,
    /// Process 1 of the machine, as this one numbers it.
    init: i32,
    name: String,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Boots one. `None`: it cannot be had here, and the reason has been printed; with `VERSIOND_REQUIRE=all`
    /// that is a failure.
    pub(crate) fn boot() -> Option<Machine> {
        if let Some(why) = missing() {
            return skip(&why);
        }
        let folder = tempfile::Builder::new().prefix("vd-").tempdir().unwrap();
        let (root, log) = (folder.path().join("m"), folder.path().join("console"));
        fs::create_dir(&root).unwrap();
        let name = format!("versiond-test-{}", folder.path().file_name().unwrap().to_str().unwrap());
        let console = fs::File::create(&log).unwrap();
        let binaries = release("versiond").canonicalize().unwrap();
        let wrapper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--uts", "--ipc", "--net", "/bin/sh"])
            .args([script(), "outer".into(), root, name.clone().into()])
            .args([binaries.parent().unwrap(), &units()])
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let mut machine = Machine { wrapper, init: 0, name, log, _folder: folder };
        let begun = Instant::now();
        while !machine.is_up() {
            if let Some(ended) = machine.wrapper.try_wait().unwrap() {
                let said = machine.console();
                if said.contains("Operation not permitted") || said.contains("Permission denied") {
                    return skip(&format!("this machine does not allow it: {said}"));
                }
                panic!("the machine ended at its boot ({ended}):\n{said}");
            }
            assert!(begun.elapsed() < WITHIN, "systemd does not come up:\n{}", machine.console());
            std::thread::sleep(LOOK_EVERY);
        }
        Some(machine)
    }

    /// Whether systemd has started all of its target. What fails of it besides is this machine's.
    fn is_up(&mut self) -> bool {
        let children = format!("/proc/{0}/task/{0}/children", self.wrapper.id());
        let first = fs::read_to_string(children).ok().and_then(|list| list.split_whitespace().next()?.parse().ok());
        self.init = first.unwrap_or(0);
        self.init > 0
            && fs::read_to_string(format!("/proc/{}/comm", self.init)).is_ok_and(|name| name.trim() == "systemd")
            && ["running", "degraded"].contains(&self.output("systemctl", &["is-system-running"]).0.trim())
    }

    /// Its root, seen from here.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.init).into()
    }

    /// Where `path`, an absolute one of the machine, is from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the machine; in place of an older one whole.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let to = self.path(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let beside = to.with_extension("next");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, to).unwrap();
    }

    /// Runs a program in the machine to its success, and returns what it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let (out, err, code) = self.output(program, args);
        assert_eq!(code, Some(0), "{program} {args:?}: {out}{err}\n{}", self.journal());
        out
    }

    /// The same, whatever it ends with: standard output, standard error, exit code.
    pub(crate) fn output(&self, program: &str, args: &[&str]) -> (String, String, Option<i32>) {
        let init = self.init.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", program]);
        let Output { stdout, stderr, status } =
            command.args(args).env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(stdout), text(stderr), status.code().or(status.signal().map(|signal| -signal)))
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.run("systemctl", &["show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// Waits for a property of a unit to have this value.
    pub(crate) fn until(&self, unit: &str, property: &str, wanted: &str) {
        self.until_true(&format!("{property}={wanted}"), || self.show(unit, property) == wanted);
    }

    /// Waits for a condition that nobody announces.
    pub(crate) fn until_true(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < WITHIN, "never: {what}\n{}", self.journal());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether a process of the machine, by its number there, exists.
    pub(crate) fn has_process(&self, pid: u32) -> bool {
        self.path(&format!("proc/{pid}")).exists()
    }

    /// Runs a test's clients in the machine's network.
    pub(crate) fn in_its_network<T: Send>(&self, clients: impl AsyncFnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        let clients = || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clients())
        };
        // A network namespace is the thread's: it goes with it.
        std::thread::scope(|scope| scope.spawn(clients).join())
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    }

    /// The latest that versiond and systemd have said of the unit.
    pub(crate) fn journal(&self) -> String {
        self.output("journalctl", &["--unit", "versiond", "--no-pager", "--lines", "60", "--output", "cat"]).0
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The wrapper's death is its child's: process 1, and with it everything of its namespace.
        self.wrapper.kill().ok();
        self.wrapper.wait().ok();
        let begun = Instant::now();
        while self.init > 0 && Path::new(&format!("/proc/{}", self.init)).exists() && begun.elapsed() < WITHIN {
            std::thread::sleep(LOOK_EVERY);
        }
        let mut clean = Command::new("unshare");
        clean.env("PATH", PATH).args(["--mount", "/bin/sh"]).args([
            script(),
            "clean".into(),
            PathBuf::from(&self.name),
        ]);
        let cleaned = clean.stdin(Stdio::null()).output();
        if !std::thread::panicking() {
            let cleaned = cleaned.unwrap();
            assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boot.sh")
}

/// Where the units are.
pub(crate) fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").canonicalize().unwrap()
}

/// Why no machine can be had here.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("real systemd needs root".to_owned());
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("systemd is not installed (apt-get install systemd)".to_owned());
    }
    let is_there = |program: &&str| PATH.split(':').any(|folder| Path::new(folder).join(program).exists());
    if let Some(program) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return Some(format!("{program} is not installed"));
    }
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = |kind: &&str| kinds.lines().any(|line| line.split_whitespace().last() == Some(kind));
    ["overlay", "cgroup2", "tmpfs"].iter().find(|kind| !known(kind)).map(|kind| format!("the kernel has no {kind}"))
}

/// Says why a test does not run, past the capture of passing tests.
pub(crate) fn skip<T>(why: &str) -> Option<T> {
    use std::io::Write as _;
    assert!(std::env::var("VERSIOND_REQUIRE").as_deref() != Ok("all"), "required, but: {why}");
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    None
}
