//! `versiond import-upstream`: takes over what upstream's supervisor has installed, and its data.
//!
//! ```text
//! DIR/bin/<name>/<sha256>/install.json, <program>   ──copy──▶ state_dir/store/<sha256>/
//! DIR/bin/<name>/<program>                          ──copy──▶ state_dir/store/<its own sha256>/
//! DIR/data/<name>/                                  ──copy──▶ state_dir/data/<service>/<name>/
//! ```
//!
//! Nothing of the source is changed. It is the daemon's own subcommand, since it writes what only the daemon
//! writes, under the daemon's lock. Lives here: the command; [`plan`] looks, [`copy`] copies.

mod copy;
mod plan;

#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use camino::Utf8Path;
use supervisor_protocol::{NameError, ServiceName, Sha256, VersionName};

use crate::config::{self, Env};
use crate::ledger::{Ledger, LedgerError};
use crate::run::chain;
use crate::store::{Adopted, Elsewhere, StoreError, adopt};

use self::copy::{CopyError, Imported};
use self::plan::{Found, Program};

/// What the command is told.
#[derive(Debug, Clone)]
pub struct Options<'o> {
    pub directory: &'o Path,
    pub state_dir: &'o Path,
    /// Whose versions the names are.
    pub service: ServiceName,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Why nothing was done at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{}: neither bin nor data is there", .0.display())]
    Nothing(PathBuf),
    #[error("{}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("upstream's supervisor or a child of it runs: process {pid} names {} on its command line", path.display())]
    Runs { pid: u32, path: PathBuf },
    #[error("stop versiond first")]
    Ledger(#[source] LedgerError),
}

/// Why something of the source is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("its name cannot be a version")]
    Name(#[source] NameError),
    #[error("the folder is named {folder} and its install.json {noted}")]
    OtherArchive { folder: String, noted: Sha256 },
    #[error("install.json cannot be read: {0}")]
    Note(String),
    #[error("it was tampered with: install.json has {noted}, the program is {found}")]
    Tampered { noted: Sha256, found: Sha256 },
    #[error("{0} files could be the program")]
    Programs(usize),
    #[error("{} is there already, and did not come from here", .0.display())]
    Taken(PathBuf),
    #[error("the store does not take it")]
    Store(#[source] StoreError),
    #[error("it cannot be copied")]
    Copy(#[source] CopyError),
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// What became of one thing, or would.
#[derive(Debug)]
enum Outcome {
    Copied { to: PathBuf },
    WouldCopy { to: PathBuf },
    AlreadyThere { to: PathBuf },
    Refused(Refused),
}

/// Everything that was found, with what became of it.
#[derive(Debug, Default)]
pub struct Report(Vec<(PathBuf, Outcome)>);

impl Report {
    /// Whether something was left behind.
    #[must_use]
    pub fn has_refusals(&self) -> bool {
        self.0.iter().any(|(_, outcome)| matches!(outcome, Outcome::Refused(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, outcome) in &self.0 {
            let from = from.display();
            match outcome {
                Outcome::Copied { to } => writeln!(f, "copied        {from} -> {}", to.display())?,
                Outcome::WouldCopy { to } => writeln!(f, "would copy    {from} -> {}", to.display())?,
                Outcome::AlreadyThere { to } => writeln!(f, "already there {from} -> {}", to.display())?,
                Outcome::Refused(refused) => writeln!(f, "refused       {from}: {}", chain(refused))?,
            }
        }
        if self.0.is_empty() { writeln!(f, "nothing was found") } else { Ok(()) }
    }
}

/// The command. 0: everything is taken over; 1: something was refused, or nothing could be done.
#[must_use]
pub fn main(
    path: Option<&Utf8Path>,
    env: &Env,
    directory: &Path,
    service: Option<ServiceName>,
    dry_run: bool,
) -> ExitCode {
    let (text, code) = match prepare(path, env, directory, service, dry_run) {
        Ok(report) => {
            let code = if report.has_refusals() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            (report.to_string(), code)
        }
        Err(text) => (format!("refused: {text}\n"), ExitCode::FAILURE),
    };
    // Nobody is left to tell when the reader of the report is gone.
    io::stdout().write_all(text.as_bytes()).ok();
    code
}

fn prepare(
    path: Option<&Utf8Path>,
    env: &Env,
    directory: &Path,
    service: Option<ServiceName>,
    dry_run: bool,
) -> Result<Report, String> {
    let config = config::read(path, env).map_err(|error| chain(&error))?;
    let mut services = config.services.keys();
    let only = services.next().filter(|_| services.next().is_none()).cloned();
    let Some(service) = service.or(config.catalog.service.clone()).or(only) else {
        return Err("whose versions are they? say --service NAME".to_owned());
    };
    if !config.services.contains_key(&service) {
        let mut known = String::new();
        for name in config.services.keys() {
            // Writing to a string does not fail.
            write!(known, " {name}").ok();
        }
        return Err(format!("the configuration has no service {service}; it has{known}"));
    }
    let state_dir = config.host.state_dir.as_std_path();
    import(&Options { directory, state_dir, service, dry_run }).map_err(|error| chain(&error))
}

/// Takes everything over that can be, and says what became of the rest. A second run finds it done.
///
/// # Errors
/// The source is none or in use, or a daemon has the state directory.
pub fn import(options: &Options<'_>) -> Result<Report, ImportError> {
    let directory = options.directory.canonicalize();
    let directory = directory.map_err(|source| ImportError::Read { path: options.directory.to_owned(), source })?;
    let found = plan::look(&directory)?;
    if let Some((pid, path)) = plan::user_of(&directory) {
        return Err(ImportError::Runs { pid, path });
    }
    // Held until the end.
    let _ledger = match options.dry_run {
        true => None,
        false => Some(Ledger::open(options.state_dir).map_err(ImportError::Ledger)?),
    };
    let mut report = Report::default();
    for (path, found) in found {
        let outcome = match found {
            Ok(Found::Program(program)) => take_program(&path, &program, options),
            Ok(Found::Data(name)) => take_data(&path, &name, options),
            Err(refused) => Err(refused),
        };
        report.0.push((path, outcome.unwrap_or_else(Outcome::Refused)));
    }
    Ok(report)
}

fn take_program(path: &Path, program: &Program, options: &Options<'_>) -> Result<Outcome, Refused> {
    let store = options.state_dir.join("store");
    let to = store.join(program.archive_sha256.to_string());
    if options.dry_run {
        return Ok(if to.exists() { Outcome::AlreadyThere { to } } else { Outcome::WouldCopy { to } });
    }
    let elsewhere = Elsewhere {
        program: path,
        archive_sha256: program.archive_sha256,
        entry_sha256: program.entry_sha256,
        member: program.member.as_deref(),
    };
    Ok(match adopt(&store, &elsewhere).map_err(Refused::Store)? {
        Adopted::Copied => Outcome::Copied { to },
        Adopted::AlreadyThere => Outcome::AlreadyThere { to },
    })
}

fn take_data(path: &Path, name: &VersionName, options: &Options<'_>) -> Result<Outcome, Refused> {
    let to = options.state_dir.join("data").join(options.service.as_str()).join(name.as_str());
    let mut imported = Imported::read(options.state_dir).map_err(Refused::Read)?;
    if to.symlink_metadata().is_ok() {
        return if imported.is_from(path, &to) { Ok(Outcome::AlreadyThere { to }) } else { Err(Refused::Taken(to)) };
    }
    if options.dry_run {
        return Ok(Outcome::WouldCopy { to });
    }
    copy::folder(path, &to, &mut imported).map_err(Refused::Copy)?;
    Ok(Outcome::Copied { to })
}
