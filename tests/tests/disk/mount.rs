//! A file system in memory, of a size and with the options that a test asks for.

use std::io::Write as _;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

/// A mounted file system. Unmounted with this.
pub(crate) struct Mount {
    at: Utf8PathBuf,
}

impl Mount {
    /// Mounts one at `at`, which is made. `None` where that is not permitted: the reason is on standard error, and
    /// where every check is required it is a failure.
    pub(crate) fn new(at: &Utf8Path, options: &str) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("mode=0755,{options}");
        let ended = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "versiond-test", at.as_str()]).output();
        let ended = ended.unwrap();
        if ended.status.success() {
            return Some(Mount { at: at.to_owned() });
        }
        let why = String::from_utf8_lossy(&ended.stderr).into_owned();
        let is_required = std::env::var("VERSIOND_REQUIRE").is_ok_and(|require| require == "all");
        assert!(!is_required && !nix::unistd::geteuid().is_root(), "cannot mount: {why}");
        eprintln!("skipped: a file system of its own takes the right to mount: {why}");
        None
    }

    /// Mounts it anew with other options.
    pub(crate) fn change(&self, options: &str) {
        let options = format!("remount,{options}");
        let ended = Command::new("mount").args(["-o", &options, self.at.as_str()]).status().unwrap();
        assert!(ended.success(), "{options}");
    }

    /// Takes all room but so many bytes. Given back with what is returned.
    pub(crate) fn fill(&self, leave: u64) -> Filler {
        let found = nix::sys::statvfs::statvfs(self.at.as_std_path()).unwrap();
        let free = found.blocks_available() * found.fragment_size();
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let chunk = vec![0u8; 1 << 20];
        for _ in 0..free.saturating_sub(leave) >> 20 {
            file.write_all(&chunk).unwrap();
        }
        Filler(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: of a test that has failed a process may still be in it.
        Command::new("umount").args(["-l", self.at.as_str()]).status().ok();
    }
}

/// What takes the room of a file system.
pub(crate) struct Filler(Utf8PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}
