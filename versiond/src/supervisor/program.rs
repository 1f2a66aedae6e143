//! What a `command` of the configuration is: its identity, so that a change of it is a swap like any other.
//!
//! The identity is the SHA-256 over the program's bytes (and its interpreter's, for a script), the arguments, the
//! environment and the templates of its files. The file that names it approves it; it is executed by its path, so
//! that only who may write there decides what runs. Blocking. Must not live here: when to look again.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use sha2::Digest as _;
use supervisor_protocol::Sha256;
use versiond_core::catalog::Artifact;

use crate::config::{CommandConfig, ServiceConfig};
use crate::process::{SealError, pin};
use crate::store::Installed;

/// Where an interpreter is looked for that `env` is to find, when the service's environment has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest line by which a script names its interpreter, in bytes: the kernel's bound.
const LINE: u64 = 256;

/// A program that the configuration names, as it is on the disk now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Of the program's own bytes.
    pub(crate) sha256: Sha256,
    /// Of everything that makes it what it is.
    pub(crate) identity: Sha256,
}

impl Program {
    /// As a slot knows it: bytes that are here already.
    pub(crate) fn artifact(&self) -> Artifact {
        Artifact { sha256: self.identity, urls: Vec::new(), size: None, entry: None, irreversible: false }
    }

    /// The same, installed where it is.
    pub(crate) fn installed(&self) -> Installed {
        Installed { path: self.path.clone(), archive_sha256: self.identity, entry_sha256: self.sha256 }
    }
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("the program cannot be used")]
    Program(#[source] SealError),
    #[error("{} is not executable", path.display())]
    NotExecutable { path: PathBuf },
    #[error("{}: the first line cannot be read", path.display())]
    Script {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: its interpreter cannot be used", path.display())]
    Interpreter {
        path: PathBuf,
        #[source]
        source: SealError,
    },
    #[error("{}: its interpreter {name:?} is nowhere in {search}", path.display())]
    NoInterpreter { path: PathBuf, name: String, search: String },
}

/// Looks at a command's program.
pub(crate) fn identify(service: &ServiceConfig, command: &CommandConfig) -> Result<Program, ProgramError> {
    let path = command.program.as_std_path();
    let program = pin(path, command.sha256).map_err(ProgramError::Program)?.sha256();
    if access(path, AccessFlags::X_OK).is_err() {
        return Err(ProgramError::NotExecutable { path: path.to_owned() });
    }
    let mut hash = Hash::default();
    hash.part("program", path.as_os_str().as_encoded_bytes());
    hash.part("sha256", &program.0);
    let search = service.environment.all.get("PATH").map_or(PATH, |path| path.source());
    for interpreter in interpreters(path, search)? {
        let error = |source| ProgramError::Interpreter { path: path.to_owned(), source };
        hash.part("interpreter", &pin(&interpreter, None).map_err(error)?.sha256().0);
    }
    for arg in &service.args {
        hash.part("arg", arg.source().as_bytes());
    }
    for (name, value) in &service.environment.all {
        hash.part("name", name.as_bytes());
        hash.part("value", value.source().as_bytes());
    }
    for file in &service.files {
        hash.part("file", file.path.as_str().as_bytes());
        hash.part("template", file.template.source().as_bytes());
    }
    Ok(Program { path: path.to_owned(), sha256: program, identity: hash.finish() })
}

/// The programs that the kernel runs a script by: none for a program in ELF format.
fn interpreters(path: &Path, search: &str) -> Result<Vec<PathBuf>, ProgramError> {
    let error = |source| ProgramError::Script { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(error)?;
    let mut line = Vec::new();
    BufReader::new(file.take(LINE)).read_until(b'\n', &mut line).map_err(error)?;
    let Some(rest) = line.strip_prefix(b"#!") else { return Ok(Vec::new()) };
    let rest = String::from_utf8_lossy(rest).into_owned();
    let mut words = rest.split_ascii_whitespace();
    let Some(first) = words.next().map(PathBuf::from) else { return Ok(Vec::new()) };
    let mut found = vec![first.clone()];
    if first.file_name().is_some_and(|name| name == "env")
        && let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('='))
    {
        let mut folders = search.split(':').map(|folder| Path::new(folder).join(name));
        found.push(folders.find(|path| path.is_file()).ok_or_else(|| ProgramError::NoInterpreter {
            path: path.to_owned(),
            name: name.to_owned(),
            search: search.to_owned(),
        })?);
    }
    Ok(found)
}

/// A hash over parts of which none can run into the next.
#[derive(Default)]
struct Hash(sha2::Sha256);

impl Hash {
    fn part(&mut self, kind: &str, bytes: &[u8]) {
        self.0.update(format!("{kind} {}\n", bytes.len()));
        self.0.update(bytes);
    }

    fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{self, Env};

    /// The identity of the command that `text` describes, below a folder with two scripts.
    fn identity(folder: &Path, text: &str) -> Result<Program, ProgramError> {
        let file = camino::Utf8PathBuf::from_path_buf(folder.join("versiond.toml")).unwrap();
        let text = text.replace("$", folder.to_str().unwrap());
        std::fs::write(&file, format!("host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.a]\n{text}")).unwrap();
        let config = config::read(Some(&file), &Env::new()).unwrap();
        let service = config.services.values().next().unwrap();
        identify(service, service.command.as_ref().unwrap())
    }

    fn script(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn everything_that_makes_a_command_what_it_is_changes_its_identity_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        script(&folder.join("run"), "#!/bin/sh\nexec sleep 1\n");
        let of = |text: &str| identity(folder, text).unwrap().identity;
        let base =
            "command = [\"$/run\", \"{port}\"]\nenv = { A = \"1\" }\nfile = [{ path = \"f\", template = \"x\" }]\n";
        let first = of(base);
        assert_eq!(of(&format!("{base}route = \"/a\"\nstop_signal = \"QUIT\"\n")), first);
        for (from, to) in [
            ("\"{port}\"", "\"{port}\", \"\""),
            ("\"{port}\"", "\"-{port}\""),
            ("A = \"1\"", "A = \"2\""),
            ("A = \"1\"", "B = \"1\""),
            ("template = \"x\"", "template = \"y\""),
            ("path = \"f\"", "path = \"g\""),
        ] {
            assert_ne!(of(&base.replace(from, to)), first, "{to}");
        }
        script(&folder.join("run"), "#!/bin/sh\nexec sleep 2\n");
        assert_ne!(of(base), first);
    }

    #[test]
    fn a_scripts_interpreter_belongs_to_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        script(&folder.join("tool"), "one");
        script(&folder.join("run"), &format!("#!{}/tool -x\n", folder.display()));
        script(&folder.join("found"), "#!/usr/bin/env -S tool\n");
        let direct = "command = [\"$/run\"]\n";
        let by_env = "command = [\"$/found\"]\nenv = { PATH = \"/nowhere:$\" }\n";
        let before = [direct, by_env].map(|text| identity(folder, text).unwrap());
        script(&folder.join("tool"), "two");
        for (before, text) in before.into_iter().zip([direct, by_env]) {
            let after = identity(folder, text).unwrap();
            assert_eq!(after.sha256, before.sha256);
            assert_ne!(after.identity, before.identity, "{text}");
        }
        let lost = identity(folder, "command = [\"$/found\"]\nenv = { PATH = \"/nowhere\" }\n");
        assert!(matches!(lost, Err(ProgramError::NoInterpreter { .. })), "{lost:?}");
    }

    #[test]
    fn p6_a_program_that_is_not_there_not_executable_or_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(matches!(
            identity(folder, "command = [\"$/run\"]"),
            Err(ProgramError::Program(SealError::Read { .. }))
        ));
        std::fs::write(folder.join("run"), "#!/bin/sh\n").unwrap();
        assert!(matches!(identity(folder, "command = [\"$/run\"]"), Err(ProgramError::NotExecutable { .. })));
        script(&folder.join("run"), "#!/bin/sh\n");
        let pinned = |sha256: &str| identity(folder, &format!("command = [\"$/run\"]\ncommand_sha256 = \"{sha256}\""));
        let wrong = pinned(&"0".repeat(64));
        assert!(matches!(wrong, Err(ProgramError::Program(SealError::WrongHash { .. }))), "{wrong:?}");
        let right = identity(folder, "command = [\"$/run\"]").unwrap().sha256.to_string();
        assert_eq!(pinned(&right).unwrap().sha256.to_string(), right);
    }
}
