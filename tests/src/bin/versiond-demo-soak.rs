//! `versiond-demo-soak`: thousands of event streams through one router for minutes, while hosts drain and builds are
//! rolled.

use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::fleet::host::Programs;
use versiond_demo::fleet::soak::{self, Size, Soak};
use versiond_demo::stand;
use versiond_demo::view::Output;

/// Holds thousands of event streams open through one router, drains hosts and rolls builds under them, and checks
/// every event and the router's memory
///
/// Exit codes: 0 every stream was whole and the memory flat; 1 it was not so; 2 it could not be run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Streams at once. Each is two connections of the router.
    #[arg(long, default_value_t = 9_000)]
    streams: usize,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    seconds: u64,
    /// The longest stream, in seconds.
    #[arg(long, default_value_t = 100, value_name = "SECONDS")]
    longest: u64,
    /// The folder of versiond, versiond-router, versionctl and the demo's children [default: that of this program].
    #[arg(long, value_name = "DIR")]
    programs: Option<Utf8PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(soaked(&arguments)));
    match outcome {
        Ok(soak) => {
            let complaints = soak.complaints();
            Output::Stdout.say(&serde_json::to_string_pretty(&soak).unwrap_or_default());
            complaints.iter().for_each(|wrong| Output::Stderr.say(wrong));
            ExitCode::from(u8::from(!complaints.is_empty()))
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-demo-soak: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn soaked(arguments: &Arguments) -> anyhow::Result<Soak> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let beside = this.parent().unwrap_or(Utf8Path::new("."));
    let children = arguments.programs.clone().unwrap_or_else(|| beside.to_owned());
    let programs = Programs::beside((&children.join("versiond"), &children));
    stand::raise_descriptor_limit();
    let (folder, _temporary) = stand::folder(None)?;
    let size = Size {
        streams: arguments.streams.max(1),
        lasting: Duration::from_secs(arguments.seconds.max(10)),
        longest: Duration::from_secs(arguments.longest.max(4)),
    };
    let begun = std::time::Instant::now();
    let say = |what: &str| Output::Stderr.say(&format!("{:4} s  {what}", begun.elapsed().as_secs()));
    soak::run(programs, &folder, size, say).await
}
