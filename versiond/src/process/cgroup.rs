//! Control groups of version 2: one for each generation, below the one that was delegated to versiond.
//!
//! A process cannot leave its group, whatever it forks, forgets or renames: what belongs to a generation is what is
//! in its group, and one write kills all of it. versiond itself moves into a leaf, since a group that passes
//! controllers on may hold no process of its own.
//!
//! ```text
//! versiond.service/            delegated: the tree
//!   supervisor/                versiond
//!   devshardd.v0.2.13.g41/     a generation
//! ```
//!
//! Must not live here: which limits a service has, and when a generation ends.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use supervisor_protocol::{Generation, SlotId};

use super::{Signal, sys};

/// The leaf of versiond itself.
const LEAF: &str = "supervisor";
/// Where a process is whose delegated group is the one above: versiond's next life, and what systemd runs beside it.
const BELOW: [&str; 2] = [LEAF, ".control"];
/// How often a group is looked at that is on its way to be empty.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// By these systemd marks what it has delegated; the first can be read by everyone.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
        })
    }
}

/// The most that the processes of a group may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// In bytes.
    pub memory_max: Option<u64>,
    /// In thousandths of a processor.
    pub cpu_max: Option<u32>,
    pub pids_max: Option<u64>,
}

impl Limits {
    /// What must be there for them to hold.
    #[must_use]
    pub fn controllers(&self) -> BTreeSet<Controller> {
        self.files().map(|(controller, _, _)| controller).collect()
    }

    fn files(&self) -> impl Iterator<Item = (Controller, &'static str, String)> {
        /// In microseconds: short enough that a process at its limit still answers.
        const PERIOD: u64 = 100_000;
        let cpu = |thousandths: u32| format!("{} {PERIOD}", u64::from(thousandths) * PERIOD / 1_000);
        let files = [
            (Controller::Memory, "memory.max", self.memory_max.map(|bytes| bytes.to_string())),
            (Controller::Cpu, "cpu.max", self.cpu_max.map(cpu)),
            (Controller::Pids, "pids.max", self.pids_max.map(|count| count.to_string())),
        ];
        files.into_iter().filter_map(|(controller, file, value)| Some((controller, file, value?)))
    }
}

/// Why there are no control groups here.
#[derive(Debug, thiserror::Error)]
pub enum NoTree {
    #[error("no hierarchy of version 2 is mounted")]
    NotMounted,
    #[error("{} was not delegated to versiond", group.display())]
    NotDelegated { group: PathBuf },
    #[error("{} holds other processes too", group.display())]
    Shared { group: PathBuf },
    #[error("{} cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The groups below the delegated one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
    controllers: BTreeSet<Controller>,
}

impl Tree {
    /// Looks for the delegated group that this process is in, and changes nothing.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self, NoTree> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|source| NoTree::Unusable { path: path.into(), source });
        let own = locate(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?).ok_or(NoTree::NotMounted)?;
        let root = match own.parent() {
            Some(parent) if BELOW.iter().any(|name| own.ends_with(name)) && is_delegated(parent) => parent,
            _ if is_delegated(&own) => &own,
            _ => return Err(NoTree::NotDelegated { group: own }),
        };
        // Whoever else is in there may be another versiond, whose generations are not this one's to end.
        if !is_alone_in(&own) || !is_alone_in(root) {
            return Err(NoTree::Shared { group: own });
        }
        let root = root.to_owned();
        let controllers = listed(&root, "cgroup.controllers")?;
        Ok(Self { root, controllers })
    }

    /// The tree below a group that is known to be versiond's, with what is passed on there.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        let controllers = listed(&root, "cgroup.subtree_control").unwrap_or_default();
        Self { root, controllers }
    }

    /// Moves this process into its leaf and lets the groups of generations have the controllers.
    ///
    /// # Errors
    /// The leaf cannot be made or entered.
    pub fn enter(self) -> Result<Self, NoTree> {
        let leaf = self.root.join(LEAF);
        let unusable = |source| NoTree::Unusable { path: leaf.clone(), source };
        make(&leaf).map_err(unusable)?;
        fs::write(leaf.join("cgroup.procs"), "0").map_err(unusable)?;
        for controller in &self.controllers {
            // Each alone: one that is refused costs the others nothing, and what holds is read afterwards.
            fs::write(self.root.join("cgroup.subtree_control"), format!("+{controller}")).ok();
        }
        let controllers = listed(&self.root, "cgroup.subtree_control")?;
        Ok(Self { controllers, ..self })
    }

    /// The delegated group.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What can be limited here.
    #[must_use]
    pub fn controllers(&self) -> &BTreeSet<Controller> {
        &self.controllers
    }

    /// The group of a generation, empty, with its limits as far as their controllers are here.
    ///
    /// # Errors
    /// It cannot be made, or refuses a limit.
    pub fn group(&self, slot: &SlotId, generation: Generation, limits: &Limits) -> io::Result<Group> {
        let group = Group { path: self.root.join(format!("{}.{}.{generation}", slot.service, slot.name)) };
        make(&group.path)?;
        for (_, file, value) in limits.files().filter(|(controller, ..)| self.controllers.contains(controller)) {
            fs::write(group.path.join(file), value)?;
        }
        Ok(group)
    }

    /// Kills what is in the groups of generations and removes them; returns how many there were. Blocking.
    ///
    /// # Errors
    /// The tree cannot be read, or a group is not empty `within`.
    pub fn sweep(&self, within: Duration) -> io::Result<usize> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && is_generation(&entry.file_name().to_string_lossy()) {
                Group { path: entry.path() }.end(within)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// The group of one generation.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends SIGKILL to every process in it, those that are being forked too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            // Before Linux 5.14 there is no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.exists() => self.kill_each(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            killed => killed,
        }
    }

    /// Whether no process is in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_empty(&self) -> io::Result<bool> {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(events.lines().any(|line| line == "populated 0")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Kills what is in it until nothing is, and removes it. Blocking.
    ///
    /// # Errors
    /// The kernel refuses, or something is left `within`.
    pub fn end(&self, within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        while !self.is_empty()? {
            if Instant::now() >= deadline {
                let path = self.path.display();
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{path} does not become empty")));
            }
            self.kill()?;
            std::thread::sleep(LOOK_EVERY);
        }
        remove(&self.path)
    }

    fn kill_each(&self) -> io::Result<()> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs"))?;
        for pid in listed.lines().filter_map(|line| line.parse().ok()) {
            let killed = sys::pidfd_open(pid).and_then(|pidfd| sys::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL));
            match killed {
                Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that never had a process is left over otherwise; one that has any stays.
        fs::remove_dir(&self.path).ok();
    }
}

/// The folder of the group that a process is in, of the hierarchy of version 2, wherever that is mounted.
fn locate(mountinfo: &str, membership: &str) -> Option<PathBuf> {
    let group = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A mount may show only a part of the hierarchy.
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(&point.replace("\\040", " ")).join(below))
    })
}

/// Whether the group is versiond's to divide: systemd has marked it so, or it was given to versiond's own user.
fn is_delegated(group: &Path) -> bool {
    let marked = MARKS.iter().any(|mark| sys::attribute(group, mark).is_ok_and(|value| value == b"1"));
    let euid = nix::unistd::geteuid();
    let given = || fs::metadata(group).is_ok_and(|metadata| metadata.uid() == euid.as_raw());
    marked || (!euid.is_root() && given())
}

/// Whether no process but this one is in the group itself.
fn is_alone_in(group: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|listed| listed.lines().all(|pid| pid == own))
}

/// `service.version.gN`: nobody else's.
fn is_generation(name: &str) -> bool {
    let number = name.rsplit_once(".g").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn listed(group: &Path, file: &str) -> Result<BTreeSet<Controller>, NoTree> {
    let path = group.join(file);
    let text = fs::read_to_string(&path).map_err(|source| NoTree::Unusable { path, source })?;
    let has = |controller: &Controller| text.split_whitespace().any(|name| name == controller.to_string());
    Ok(Controller::ALL.into_iter().filter(has).collect())
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Removes an empty group, and those that a child has made below it.
fn remove(group: &Path) -> io::Result<()> {
    let below = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        below => below?,
    };
    for entry in below {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_by_file_system_type_in_hybrid_mounts_too() {
        let membership = "8:pids:/a\n1:name=systemd:/b\n0::/system.slice/versiond.service\n";
        let found = locate(HYBRID, membership).unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/unified/system.slice/versiond.service"));
        assert_eq!(locate(HYBRID, "1:name=systemd:/b\n"), None);
        assert_eq!(locate("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", membership), None);
        let part = "41 31 0:38 /system.slice /my\\040groups rw - cgroup2 cgroup2 rw\n";
        assert_eq!(locate(part, membership).unwrap(), Path::new("/my groups/versiond.service"));
        assert_eq!(locate(part, "0::/user.slice\n"), None);
    }

    #[test]
    fn a_limit_is_written_where_its_controller_is() {
        let folder = tempfile::tempdir().unwrap();
        let tree =
            Tree { root: folder.path().to_owned(), controllers: BTreeSet::from([Controller::Memory, Controller::Cpu]) };
        let slot = SlotId { service: "demo".parse().unwrap(), name: "v0.3".parse().unwrap() };
        let limits = Limits { memory_max: Some(1 << 30), cpu_max: Some(1_500), pids_max: Some(64) };
        let group = tree.group(&slot, Generation(7), &limits).unwrap();
        assert_eq!(group.path(), folder.path().join("demo.v0.3.g7"));
        let read = |file: &str| fs::read_to_string(group.path().join(file));
        assert_eq!(
            (read("memory.max").unwrap(), read("cpu.max").unwrap()),
            ("1073741824".into(), "150000 100000".into())
        );
        assert!(read("pids.max").is_err());
        assert_eq!(limits.controllers().len(), 3);
    }

    #[test]
    fn only_groups_of_generations_are_swept() {
        for name in ["demo.v0.3.g7", "a.g1.g12"] {
            assert!(is_generation(name), "{name}");
        }
        for name in [LEAF, ".control", "demo.v0.3", "demo.g", "demo.gx", "cgroup.procs"] {
            assert!(!is_generation(name), "{name}");
        }
    }
}
