//! `versiond-demo`: parses the command line, finds the programs, runs the demo, prints the report.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::Parser;
use versiond_demo::options::Options;
use versiond_demo::report::Report;
use versiond_demo::view::Output;
use versiond_demo::{conductor, sabotage, stand, supervisor};

/// It could not be run at all.
const CANNOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let output = if options.json { Output::Stderr } else { Output::Stdout };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(demo(&options, output)));
    match outcome {
        Ok(report) => {
            print(&options, output, &report);
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            Output::Stderr.say(&format!("versiond-demo: {error:#}"));
            ExitCode::from(CANNOT_RUN)
        }
    }
}

async fn demo(options: &Options, output: Output) -> anyhow::Result<Report> {
    let this = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let (versiond, children) = options.programs(&this);
    let version = match supervisor::version_of(&versiond).await {
        Ok(version) => version,
        Err(error) if options.sabotage.is_some() => anyhow::bail!("{error:#}; `make faults` builds it"),
        Err(error) => return Err(error.context("`make demo` builds it")),
    };
    if options.sabotage.is_some() && !sabotage::has_faults(&version) {
        anyhow::bail!("{versiond} ({version}) cannot be sabotaged; `make faults` builds one that can");
    }
    stand::raise_descriptor_limit();
    let (folder, _temporary) = stand::folder(options.keep.as_deref())?;
    output.say(&format!("{version} in {folder}: {} swaps, {} streams", options.swaps, options.streams));
    conductor::run(options, (&versiond, &children), &folder, version, output).await
}

fn print(options: &Options, output: Output, report: &Report) {
    output.say(&format!("\n{}", report.receipt_table()));
    for trial in &report.trials {
        output.say(&format!("{}, {}: {}", trial.slot, trial.what, trial.text));
    }
    for kill in &report.kills {
        let after = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("after {ms} ms"));
        let (at, back, settled) = (kill.at_ms / 1_000, after(kill.back_ms), after(kill.settled_ms));
        output.say(&format!("killed at {at} s: served again {back}, at rest {settled}"));
    }
    for failure in &report.failures {
        output.say(&failure.to_string());
    }
    output.say(&format!("\n{}", report.closing()));
    if options.json {
        match serde_json::to_string(report) {
            Ok(json) => Output::Stdout.say(&json),
            Err(error) => Output::Stderr.say(&format!("the report cannot be written: {error}")),
        }
    }
}
