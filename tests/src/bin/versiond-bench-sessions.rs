//! `versiond-bench-sessions`: measures devshardd beside the model behind it, prints a table, writes
//! `target/bench-sessions.json`.

use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use versiond_demo::bench::sessions::{self, Size};
use versiond_demo::stand;
use versiond_demo::view::Output;

/// Measures what a session host costs beside the model behind it
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The devshardd to measure [default: beside this program].
    #[arg(long, value_name = "PATH")]
    devshardd: Option<Utf8PathBuf>,
    /// Where the figures are written [default: bench-sessions.json in the target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
    /// Inferences whose first token is timed.
    #[arg(long, default_value_t = 500)]
    first_tokens: u64,
    /// Tokens of the long answer.
    #[arg(long, default_value_t = 50_000)]
    tokens: u32,
    /// Streams at once.
    #[arg(long, default_value_t = 2_000)]
    streams: usize,
    /// For how long inferences are asked for, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(measure(&arguments))) {
        Ok((table, file)) => {
            Output::Stdout.say(&format!("{table}\n{file}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-bench-sessions: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<(String, Utf8PathBuf)> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let beside = this.parent().unwrap_or(Utf8Path::new("."));
    let program = arguments.devshardd.clone().unwrap_or_else(|| beside.join("devshardd"));
    stand::raise_descriptor_limit();
    let size = Size {
        first_tokens: arguments.first_tokens.max(1),
        tokens: arguments.tokens.max(1),
        streams: arguments.streams.max(1),
        lasting: Duration::from_secs(arguments.seconds.max(1)),
        askers: 32,
    };
    let measured = sessions::run(program.as_std_path(), size, |what| Output::Stderr.say(what)).await?;
    let target = this.ancestors().nth(2).unwrap_or(Utf8Path::new("."));
    let file = arguments.out.clone().unwrap_or_else(|| target.join("bench-sessions.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&measured)?)?;
    Ok((measured.table(), file))
}
