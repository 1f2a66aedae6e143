//! What the tests that run release binaries share: where these are, and one run at a time.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

/// A release binary. Missing is a failure, not a reason to skip.
pub(crate) fn release(binary: &str) -> PathBuf {
    let folder = std::env::var_os("VERSIOND_BIN_DIR").map_or_else(|| target().join("release"), PathBuf::from);
    let path = folder.join(binary);
    assert!(path.is_file(), "{} is missing: `make release` builds it", path.display());
    path
}

/// How a demo ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
    pub(crate) stderr: String,
}

/// Runs the demo of one host.
pub(crate) fn demo(args: &[&str]) -> Ended {
    run("versiond-demo", args)
}

/// Runs a demo. One at a time over all tests of the machine: each is built to keep it busy.
pub(crate) fn run(demo: &str, args: &[&str]) -> Ended {
    let lock = File::create(std::env::temp_dir().join("versiond-demo.lock")).unwrap();
    let _alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let output = Command::new(release(demo)).args(args).stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    Ended { code: output.status.code(), json, stderr }
}

/// The target folder.
pub(crate) fn target() -> PathBuf {
    // …/target/<profile>/deps/<this test>
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(3).unwrap().to_owned()
}
