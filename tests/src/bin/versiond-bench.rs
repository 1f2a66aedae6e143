//! `versiond-bench`: measures what versiond costs, prints a table, writes `target/bench.json`.

use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::bench::{self, Bench, Size};
use versiond_demo::options::Options;
use versiond_demo::view::Output;
use versiond_demo::{stand, supervisor};

/// Measures what versiond costs beside the children that it runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The versiond to measure [default: beside this program].
    #[arg(long, value_name = "PATH")]
    versiond: Option<Utf8PathBuf>,
    /// The folder of demo-child-a, -b and -stuck [default: beside this program].
    #[arg(long, value_name = "DIR")]
    children: Option<Utf8PathBuf>,
    /// Where the figures are written [default: bench.json in the target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
    /// How long the idle section lasts, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    idle: u64,
    /// Pairs of rounds of requests.
    #[arg(long, default_value_t = 10)]
    pairs: u32,
    /// How long a round lasts, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    round: u64,
    /// How long the interfaces are asked under load, in seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    interfaces: u64,
    /// Idle streams that are opened.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// How often routers are timed that notice that a host is unready, gone or silent.
    #[arg(long, default_value_t = 9)]
    detections: u32,
    /// Swaps that are timed.
    #[arg(long, default_value_t = 12)]
    swaps: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(measure(&arguments)));
    match outcome {
        Ok((bench, file)) => {
            Output::Stdout.say(&format!("{}\n{file}", bench::table(&bench)));
            ExitCode::SUCCESS
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-bench: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<(Bench, Utf8PathBuf)> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let swaps = arguments.swaps.to_string();
    let demo = Options::try_parse_from([
        "versiond-demo",
        "--swaps",
        &swaps,
        "--streams",
        "100",
        "--stream-min",
        "1000",
        "--stream-max",
        "3000",
    ])?;
    let demo = Options { versiond: arguments.versiond.clone(), children: arguments.children.clone(), ..demo };
    let (versiond, children) = demo.programs(&this);
    let version = supervisor::version_of(&versiond).await?;
    stand::raise_descriptor_limit();
    let size = Size {
        idle: Duration::from_secs(arguments.idle),
        pairs: arguments.pairs,
        round: Duration::from_millis(arguments.round),
        interfaces: Duration::from_secs(arguments.interfaces),
        streams: arguments.streams,
        detections: arguments.detections,
    };
    let say = |what: &str| Output::Stderr.say(what);
    let bench = bench::run((&versiond, &children), version, size, &demo, say).await?;
    let target = this.ancestors().nth(2).unwrap_or(Utf8Path::new("."));
    let file = arguments.out.clone().unwrap_or_else(|| target.join("bench.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&bench)?)?;
    Ok((bench, file))
}
