//! `versiond-demo-sessions`: builds of devshardd are rolled under inference sessions, and what that cost the clients.

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::sessions::demo::{self, Report};
use versiond_demo::stand;
use versiond_demo::view::Output;

/// Rolls builds of devshardd under inference sessions, and counts from the clients' side what that cost
///
/// Exit codes: 0 every inference was heard whole and run once; 1 it was not so; 2 it could not be run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Sessions, each with one inference after the other.
    #[arg(long, default_value_t = 40)]
    sessions: usize,
    /// How often a new build is approved.
    #[arg(long, default_value_t = 4)]
    rolls: u32,
    /// The folder of versiond and devshardd [default: that of this program].
    #[arg(long, value_name = "DIR")]
    programs: Option<Utf8PathBuf>,
    /// Work in this folder, and leave it there.
    #[arg(long, value_name = "DIR")]
    keep: Option<Utf8PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(played(&arguments))) {
        Ok(report) => {
            Output::Stdout.say(&serde_json::to_string_pretty(&report).unwrap_or_default());
            ExitCode::from(u8::from(!report.is_clean()))
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-demo-sessions: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn played(arguments: &Arguments) -> anyhow::Result<Report> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let beside = this.parent().unwrap_or(Utf8Path::new("."));
    let programs = arguments.programs.clone().unwrap_or_else(|| beside.to_owned());
    let (folder, _temporary) = stand::folder(arguments.keep.as_deref())?;
    demo::run(&programs, &folder, arguments.sessions.max(1), arguments.rolls, |what| Output::Stderr.say(what)).await
}
