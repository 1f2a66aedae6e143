//! `versiond-bench-peers`: measures the router beside HAProxy and nginx, prints a table, writes
//! `target/bench-peers.json`.

use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::bench::peers::{self, Size};
use versiond_demo::stand;
use versiond_demo::view::Output;

/// Measures the router beside HAProxy and nginx, where they are installed
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of versiond-router [default: beside this program].
    #[arg(long, value_name = "DIR")]
    release: Option<Utf8PathBuf>,
    /// Where the figures are written [default: bench-peers.json in the target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
    /// How often each contender does each thing; from 6 on the intervals are of 95 %.
    #[arg(long, default_value_t = 6)]
    repetitions: usize,
    /// How long a window lasts, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    window: u64,
    /// Event streams at once.
    #[arg(long, default_value_t = 2_000)]
    streams: usize,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok((table, file)) => {
            Output::Stdout.say(&format!("{table}\n{file}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-bench-peers: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<(String, Utf8PathBuf)> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let beside = this.parent().unwrap_or(Utf8Path::new(".")).to_owned();
    let release = arguments.release.clone().unwrap_or(beside);
    stand::raise_descriptor_limit();
    let (folder, _temporary) = stand::folder(None)?;
    let size = Size {
        repetitions: arguments.repetitions.max(1),
        window: Duration::from_millis(arguments.window.max(100)),
        streams: arguments.streams.max(1),
    };
    let measured = peers::run(release.as_std_path(), &folder, size, |what| Output::Stderr.say(what))?;
    let target = this.ancestors().nth(2).unwrap_or(Utf8Path::new("."));
    let file = arguments.out.clone().unwrap_or_else(|| target.join("bench-peers.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&measured)?)?;
    Ok((peers::table::table(&measured), file))
}
