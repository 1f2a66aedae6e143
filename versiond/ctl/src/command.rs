//! The command line.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use supervisor_protocol::time::parse_duration;
use supervisor_protocol::{NameError, ServiceName, SlotId, VersionName};

use crate::client::Client;
use crate::failure::Failure;
use crate::{conformance, drain, exit, status, text, watch, why};

/// Ask versiond what runs, why something waits, and empty this host for maintenance.
///
/// Exit codes: 0 done; 1 failed; 2 the daemon cannot be reached; 3 timed out; 4 refused; 64 usage.
#[derive(Parser)]
#[command(name = "versionctl", version, max_term_width = 100)]
struct Cli {
    /// The daemon's admin socket.
    #[arg(
        long,
        env = "VERSIOND_ADMIN",
        default_value = "/run/versiond/admin.sock",
        global = true,
        value_name = "PATH"
    )]
    admin: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The host, the catalog, and every generation.
    Status {
        /// Print the daemon's answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why something waits or was refused.
    Why {
        /// Only this slot.
        #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
        slot: Option<SlotId>,
        #[arg(long)]
        json: bool,
    },
    /// Cordon this host: routers move on, what it has goes on, what still arrives is served.
    Drain {
        /// Wait until nothing is in flight, and show the way there.
        #[arg(long)]
        wait: bool,
        /// With --wait: give up after so long (exit code 3). The cordon stays.
        #[arg(long, requires = "wait", value_parser = parse_duration, value_name = "DURATION")]
        timeout: Option<Duration>,
        /// With --wait: how long routers are given to notice before an idle host counts as drained.
        #[arg(long, requires = "wait", default_value = "8s", value_parser = parse_duration, value_name = "DURATION")]
        settle: Duration,
        #[arg(long)]
        json: bool,
    },
    /// Take the cordon back.
    Undrain {
        #[arg(long)]
        json: bool,
    },
    /// The status as it changes; one line per change when the output is not a terminal.
    Watch,
    /// Start a program under the contract, in temporary folders, and tell what of it holds.
    Conformance {
        #[arg(value_name = "BIN")]
        program: Utf8PathBuf,
        #[arg(long)]
        json: bool,
        /// A path of the program whose GET takes between about 1 and 10 seconds: without it the checks
        /// of admitted work do not apply.
        #[arg(long, value_name = "PATH")]
        hold: Option<String>,
        /// How long the program may take until it is ready.
        #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
        ready_within: Duration,
        /// Further arguments of the program.
        #[arg(last = true)]
        args: Vec<String>,
    },
}

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            text::err(&format!("versionctl: {}", chain(&failure)));
            if let Some(remedy) = failure.remedy() {
                text::err(&format!("  {remedy}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let client = Client::new(&cli.admin);
    match cli.command {
        Command::Status { json } => status::run(&client, json).await,
        Command::Why { slot, json } => why::run(&client, slot.as_ref(), json).await,
        Command::Drain { wait, timeout, settle, json } => {
            drain::drain(&client, &drain::Options { wait, timeout, settle, json }).await
        }
        Command::Undrain { json } => drain::undrain(&client, json).await,
        Command::Watch => watch::run(&client).await,
        Command::Conformance { program, json, hold, ready_within, args } => {
            conformance::run(&conformance::Options { program, args, hold, ready_within }, json).await
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error("expected SERVICE/VERSION")]
    Shape,
    #[error(transparent)]
    Name(#[from] NameError),
}

fn slot(text: &str) -> Result<SlotId, SlotError> {
    let (service, name) = text.split_once('/').ok_or(SlotError::Shape)?;
    Ok(SlotId { service: ServiceName::new(service)?, name: VersionName::new(name)? })
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
