use std::fs;
use std::os::unix::fs::PermissionsExt;

use sha2::Digest;
use tempfile::TempDir;

use super::*;

/// An upstream installation and a state directory.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> World {
        World { folder: TempDir::new().unwrap() }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("opt")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// As upstream installs it: the archive is gone, what it held is noted.
    fn install(&self, name: &str, archive: Sha256, program: &[u8]) {
        self.write(&format!("bin/{name}/{archive}/devshard"), program);
        let note = serde_json::json!({"archive_sha256": archive, "binary_sha256": sha256(program)});
        self.write(&format!("bin/{name}/{archive}/install.json"), note.to_string().as_bytes());
    }

    fn import(&self, dry_run: bool) -> Result<Report, ImportError> {
        let service = ServiceName::new("devshardd").unwrap();
        let (directory, state_dir) = (self.source(), self.state());
        import(&Options { directory: &directory, state_dir: &state_dir, service, dry_run })
    }
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// How often each outcome came, by the first word of its line.
fn outcomes(report: &Report) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for line in report.to_string().lines() {
        *counts.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn counted(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
    expected.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}

#[test]
fn installs_are_promoted_and_data_taken_over_once_and_the_source_stays_as_it_is() {
    let world = World::new();
    let archive = Sha256([7; 32]);
    world.install("v0.2.13", archive, b"\x7fELF one");
    world.write("bin/v0.2.12/devshard", b"\x7fELF flat");
    world.write(&format!("bin/v0.2.13/{}/devshard.tmp.12", Sha256([8; 32])), b"half");
    world.write("data/v0.2.13/db/state.sqlite", b"rows");
    world.write("data/.versiond/catalog.json", b"{}");
    fs::set_permissions(world.source().join("data/v0.2.13/db"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("db/state.sqlite", world.source().join("data/v0.2.13/latest")).unwrap();

    let planned = world.import(true).unwrap();
    assert_eq!(outcomes(&planned), counted(&[("would", 3)]), "{planned}");
    assert!(!world.state().exists());

    let done = world.import(false).unwrap();
    assert_eq!(outcomes(&done), counted(&[("copied", 3)]), "{done}");
    let entry = |sha256: Sha256| world.state().join(format!("store/{sha256}/entry"));
    assert_eq!(fs::read(entry(archive)).unwrap(), b"\x7fELF one");
    assert_eq!(fs::read(entry(sha256(b"\x7fELF flat"))).unwrap(), b"\x7fELF flat");
    let data = world.state().join("data/devshardd/v0.2.13");
    assert_eq!(fs::read(data.join("latest")).unwrap(), b"rows");
    assert_eq!(fs::metadata(data.join("db")).unwrap().permissions().mode() & 0o777, 0o750);
    assert!(data.join("latest").symlink_metadata().unwrap().is_symlink());

    // Again, also after the children have gone on with the data.
    fs::write(data.join("db/state.sqlite"), b"more rows").unwrap();
    let again = world.import(false).unwrap();
    assert_eq!(outcomes(&again), counted(&[("already", 3)]), "{again}");
    assert_eq!(fs::read(data.join("db/state.sqlite")).unwrap(), b"more rows");
    assert_eq!(fs::read(world.source().join("data/v0.2.13/db/state.sqlite")).unwrap(), b"rows");
    assert!(world.source().join(format!("bin/v0.2.13/{archive}/install.json")).exists());
}

#[test]
fn what_was_tampered_with_or_has_no_place_is_refused_and_the_rest_taken_over() {
    let world = World::new();
    let [good, changed, moved, unnoted] = [1, 2, 3, 4].map(|byte| Sha256([byte; 32]));
    world.install("v1", good, b"\x7fELF good");
    world.install("v1", changed, b"\x7fELF before");
    world.write(&format!("bin/v1/{changed}/devshard"), b"\x7fELF after!");
    world.install("v2", moved, b"\x7fELF moved");
    fs::rename(
        world.source().join(format!("bin/v2/{moved}")),
        world.source().join(format!("bin/v2/{}", Sha256([9; 32]))),
    )
    .unwrap();
    world.install("v3", unnoted, b"\x7fELF unnoted");
    world.write(&format!("bin/v3/{unnoted}/install.json"), b"{");
    world.write("bin/v4/one", b"1");
    world.write("bin/v4/other", b"2");
    world.write("bin/v 5/devshard", b"1");
    world.write("data/v1/file", b"theirs");
    fs::create_dir_all(world.state().join("data/devshardd/v1")).unwrap();
    fs::write(world.state().join("data/devshardd/v1/file"), b"ours").unwrap();

    let report = world.import(false).unwrap();
    assert!(report.has_refusals());
    assert_eq!(outcomes(&report), counted(&[("copied", 1), ("refused", 6)]), "{report}");
    let text = report.to_string();
    for said in [
        "tampered with",
        "is named",
        "install.json cannot be read",
        "2 files",
        "cannot be a version",
        "is there already",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!world.state().join(format!("store/{changed}")).exists());
    assert_eq!(fs::read(world.state().join("data/devshardd/v1/file")).unwrap(), b"ours");
}

#[test]
fn nothing_is_done_beside_a_daemon_or_a_supervisor_that_runs_or_without_a_source() {
    let world = World::new();
    fs::create_dir_all(world.source()).unwrap();
    assert!(matches!(world.import(false), Err(ImportError::Nothing(_))));
    world.write("data/v1/file", b"rows");
    let ledger = Ledger::open(&world.state()).unwrap();
    assert!(matches!(world.import(false), Err(ImportError::Ledger(LedgerError::Locked { .. }))));
    drop(ledger);
    let path = world.source().canonicalize().unwrap().join("data/v1");
    // It waits for its input, with the folder among its arguments, as a child of upstream's has it.
    let mut command = std::process::Command::new("/bin/sh");
    let command = command.args(["-c", "read line", "child", "--data-dir"]).arg(&path);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    // Its arguments are in their place a moment after it has begun.
    let begun = std::time::Instant::now();
    while fs::read(format!("/proc/{}/cmdline", child.id())).unwrap().is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "it never begins");
        std::thread::yield_now();
    }
    let refused = world.import(false);
    child.kill().unwrap();
    child.wait().unwrap();
    let Err(ImportError::Runs { pid, path: named }) = refused else { panic!("{refused:?}") };
    assert_eq!((pid, named), (child.id(), path));
    assert_eq!(outcomes(&world.import(false).unwrap()), counted(&[("copied", 1)]));
}
