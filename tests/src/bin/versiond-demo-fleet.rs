//! `versiond-demo-fleet`: several hosts behind two routers under load, and what every change of them cost the clients.

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::fleet::clients::Crowd;
use versiond_demo::fleet::host::Programs;
use versiond_demo::fleet::report::Report;
use versiond_demo::fleet::{self, Size};
use versiond_demo::options::Lengths;
use versiond_demo::view::Output;
use versiond_demo::{stand, supervisor};

/// Empties, replaces, kills and rolls hosts behind two routers, and counts from the clients' side what that cost.
///
/// Exit codes: 0 nothing was cut but what a killed host had in flight; 1 it was not so; 2 it could not be run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// End with one JSON object on the last line of standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
    /// How many hosts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=16))]
    hosts: u32,
    /// Clients with a short POST every 100 ms; two share a session.
    #[arg(long, default_value_t = 40, value_name = "CLIENTS")]
    short: usize,
    /// Clients with one stream after the other; two share a session.
    #[arg(long, default_value_t = 80, value_name = "CLIENTS")]
    streams: usize,
    /// The shortest stream, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    stream_min: u64,
    /// The longest stream, in milliseconds.
    #[arg(long, default_value_t = 6_000, value_name = "MS")]
    stream_max: u64,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of versiond, versiond-router, versionctl and the demo's children [default: that of this program].
    #[arg(long, value_name = "DIR")]
    programs: Option<Utf8PathBuf>,
    /// Another versiond-router.
    #[arg(long, value_name = "PATH")]
    router: Option<Utf8PathBuf>,
    /// Work in this folder, and leave it there.
    #[arg(long, value_name = "DIR")]
    keep: Option<Utf8PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = if arguments.json { Output::Stderr } else { Output::Stdout };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(demo(&arguments, output)));
    match outcome {
        Ok(report) => {
            print(&arguments, output, &report);
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-demo-fleet: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn demo(arguments: &Arguments, output: Output) -> anyhow::Result<Report> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let beside = this.parent().unwrap_or(Utf8Path::new("."));
    let children = arguments.programs.clone().unwrap_or_else(|| beside.to_owned());
    let mut programs = Programs::beside((&children.join("versiond"), &children));
    programs.router = arguments.router.clone().unwrap_or(programs.router);
    let version = supervisor::version_of(&programs.versiond).await?;
    let min_ms = arguments.stream_min.max(1);
    let size = Size {
        hosts: arguments.hosts as usize,
        crowd: Crowd {
            short: arguments.short,
            streams: arguments.streams,
            lengths: Lengths { min_ms, max_ms: arguments.stream_max.max(min_ms) },
            seed: arguments.seed,
        },
    };
    stand::raise_descriptor_limit();
    let (folder, _temporary) = stand::folder(arguments.keep.as_deref())?;
    let (hosts, sessions) = (size.hosts, size.crowd.sessions());
    output.say(&format!("{version} in {folder}: {hosts} hosts behind two routers, {sessions} sessions"));
    fleet::run(programs, &folder, &size, version, output).await
}

fn print(arguments: &Arguments, output: Output, report: &Report) {
    output.say(&format!("\n{}", report.table()));
    for failure in &report.failures {
        output.say(&failure.to_string());
    }
    output.say(&format!("\n{}", report.closing()));
    if arguments.json {
        match serde_json::to_string(report) {
            Ok(json) => Output::Stdout.say(&json),
            Err(error) => Output::Stderr.say(&format!("the report cannot be written: {error}")),
        }
    }
}
