//! Which processes of this run exist, read from `/proc`: the supervisor's word is not taken for it.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use supervisor_protocol::admin::{Phase, Status};
use supervisor_protocol::env;

/// A process that a versiond of this run has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    pub nonce: String,
    pub generation: String,
    pub data_dir: Option<Utf8PathBuf>,
}

/// Every process with a nonce whose environment points into `folder`.
#[must_use]
pub fn of_run(folder: &Utf8Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        // Gone meanwhile, or another user's: not ours.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        read(pid, &String::from_utf8_lossy(&environ), folder)
    })
    .collect()
}

fn read(pid: u32, environ: &str, folder: &Utf8Path) -> Option<Found> {
    let variables: BTreeMap<&str, &str> = environ.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    let here = [env::DATA_DIR, env::ADMIN].iter().any(|name| {
        let path = variables.get(name).map(|value| value.strip_prefix("unix:").unwrap_or(value));
        path.is_some_and(|path| Utf8Path::new(path).starts_with(folder))
    });
    let nonce = (*variables.get(env::NONCE)?).to_owned();
    here.then(|| Found {
        pid,
        nonce,
        generation: variables.get(env::GENERATION).map(|text| (*text).to_owned()).unwrap_or_default(),
        data_dir: variables.get(env::DATA_DIR).map(Utf8PathBuf::from),
    })
}

/// What is wrong with the processes of a host that has settled: each must be accounted for, and no two may
/// share a data directory. Empty = nothing.
#[must_use]
pub fn unaccounted(found: &[Found], status: &Status) -> Vec<String> {
    let mut wrong = Vec::new();
    let generations = || status.slots.iter().flat_map(|slot| &slot.generations);
    let mut directories: BTreeMap<&Utf8Path, u32> = BTreeMap::new();
    for process in found {
        if !generations().any(|generation| generation.pid == Some(process.pid)) {
            let Found { pid, nonce, generation, .. } = process;
            wrong.push(format!("process {pid} (g{generation}, nonce {nonce}) is in no generation's record"));
        }
        if let Some(other) = process.data_dir.as_deref().and_then(|path| directories.insert(path, process.pid)) {
            wrong.push(format!("processes {other} and {} share a data directory", process.pid));
        }
    }
    for generation in generations().filter(|generation| generation.phase == Phase::Serving) {
        if !found.iter().any(|process| Some(process.pid) == generation.pid) {
            wrong.push(format!("{} is said to serve, but its process does not exist", generation.generation));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ours_if_it_has_a_nonce_and_points_into_the_folder() {
        let folder = Utf8Path::new("/tmp/d1");
        let environ =
            |dir: &str| format!("PATH=/bin\0SUPERVISOR_NONCE=ab\0SUPERVISOR_GENERATION=4\0SUPERVISOR_DATA_DIR={dir}\0");
        let found = read(7, &environ("/tmp/d1/state/x"), folder).unwrap();
        assert_eq!((found.pid, found.nonce.as_str(), found.generation.as_str()), (7, "ab", "4"));
        assert_eq!(read(7, &environ("/tmp/d12/state/x"), folder), None);
        assert_eq!(read(7, "SUPERVISOR_DATA_DIR=/tmp/d1/x\0", folder), None);
    }

    fn status(pids: &[(&str, u32)]) -> Status {
        let generation = |phase: &str, pid: u32| {
            serde_json::json!({"generation": pid, "sha256": "0".repeat(64), "phase": phase, "pid": pid, "phase_ms": 0,
                "inflight": 0, "by_class": {}, "oldest_ms": 0, "admitted": 0})
        };
        let generations: Vec<_> = pids.iter().map(|(phase, pid)| generation(phase, *pid)).collect();
        let slot = serde_json::json!({"service": "demo", "name": "v0.3", "ready": true, "reasons": [],
            "generations": generations});
        let status = serde_json::json!({"schema": 1, "version": "0", "host": "h", "boot": "b", "state": "serving",
            "ready": true, "uptime_ms": 1, "catalog": {"source": "x"}, "isolation": {"processes": "group", "users": "none", "socket_ownership": "verified"}, "slots": [slot],
            "receipts": []});
        serde_json::from_value(status).unwrap()
    }

    fn process(pid: u32, folder: &str) -> Found {
        let data_dir = Some(Utf8PathBuf::from(folder));
        Found { pid, nonce: "n".to_owned(), generation: pid.to_string(), data_dir }
    }

    #[test]
    fn f40_an_orphan_a_shared_directory_and_a_missing_process_are_found() {
        let wrong = |found: &[Found], pids: &[(&str, u32)]| unaccounted(found, &status(pids)).len();
        assert_eq!(wrong(&[process(1, "/a")], &[("serving", 1)]), 0);
        assert_eq!(wrong(&[process(1, "/a"), process(2, "/b")], &[("serving", 1)]), 1, "an orphan");
        let both = [("draining", 1), ("serving", 2)];
        assert_eq!(wrong(&[process(1, "/a"), process(2, "/a")], &both), 1, "a shared directory");
        assert_eq!(wrong(&[process(1, "/a")], &both), 1, "a process that is gone");
    }
}
