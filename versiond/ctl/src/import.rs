//! `versionctl import-upstream`: hands over to `versiond import-upstream`, which works on the state directory
//! itself while the daemon is stopped. Nothing of it is done here: this command knows no file of the daemon.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What `versiond import-upstream` takes; `--help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "DIR")]
    args: Vec<OsString>,
}

impl Args {
    /// Does not come back when it can be done.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let program = daemon();
        let source = Command::new(&program).arg("import-upstream").args(self.args).exec();
        Err(Failure::NoDaemon { program, source })
    }
}

/// The daemon that came with this command, else the one that is found.
fn daemon() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("versiond"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("versiond"))
}
