//! `versionctl drain` and `undrain`: cordon this host, and wait until its work has ended. Drains of a router's own
//! are in `router`.

use std::time::Duration;

use supervisor_protocol::BootNonce;
use supervisor_protocol::admin::describe_load;
use supervisor_protocol::host::{HostDrain, HostState};
use supervisor_protocol::time::parse_duration;
use tokio::time::{Instant, sleep, sleep_until};

use crate::args::Output;
use crate::client::{Client, Told};
use crate::command::Admin;
use crate::failure::Failure;
use crate::router::{self, RouterAt, Waiting};
use crate::text::{self, age, out, out_json};

/// A request whose end is all that is waited for changes no sequence number on its way, so that the
/// wait is short enough to show progress.
pub(crate) const WAIT: Duration = Duration::from_secs(2);
/// Between two questions, should whoever is asked answer each at once.
pub(crate) const PACE: Duration = Duration::from_millis(200);

/// What `drain` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of_router: OfRouter,
    /// Wait until nothing is in flight, and show the way there.
    #[arg(long)]
    wait: bool,
    /// With --wait: give up after so long (exit code 3); also --within. The cordon stays.
    #[arg(long, visible_alias = "within", requires = "wait", value_parser = parse_duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// With --wait: how long routers are given to notice before an idle host counts as drained.
    #[arg(long, requires = "wait", default_value = "8s", value_parser = parse_duration, value_name = "DURATION")]
    settle: Duration,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    of_router: OfRouter,
    #[command(flatten)]
    output: Output,
}

/// Which host of which router, if any.
#[derive(Debug, clap::Args)]
#[command(mut_arg("router", |router| router.requires("host")))]
struct OfRouter {
    /// A host of a router's pools, where a router is asked instead of this host.
    #[arg(value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    at: RouterAt,
}

impl Args {
    pub(crate) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        if let Some(host) = &self.of_router.host {
            let waiting = if self.wait { Waiting::Until(deadline) } else { Waiting::No };
            return router::drain(&admin.router(&self.of_router.at)?, host, waiting, self.output).await;
        }
        let client = &admin.daemon()?;
        let json = self.output.json;
        let mut told = client.drain().await?;
        if !json {
            out(&format!("{}: {}\n", told.body.id, heading(&told.body)));
        }
        if self.wait {
            told = wait(client, &self, deadline, told).await?;
        }
        if json {
            out_json(&told.json);
        } else if self.wait {
            out(&format!("{}: drained in {}\n", told.body.id, age(told.body.since_ms.unwrap_or_default())));
        }
        Ok(())
    }
}

impl UndrainArgs {
    pub(crate) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        if let Some(host) = &self.of_router.host {
            return router::undrain(&admin.router(&self.of_router.at)?, host, self.output).await;
        }
        let client = admin.daemon()?;
        let told = client.undrain().await?;
        if self.output.json {
            out_json(&told.json);
        } else {
            out(&format!("{}: {}\n", told.body.id, heading(&told.body)));
        }
        Ok(())
    }
}

/// Where a drain stands.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Drained,
    /// Someone has taken it back.
    TakenBack,
    Working,
    /// Nothing is in flight, but routers may not have noticed yet.
    Settling(Duration),
}

fn progress(drain: &HostDrain, settle: Duration) -> Progress {
    match drain.state {
        HostState::Serving => Progress::TakenBack,
        // Once it has started it is cordoned.
        HostState::Starting if drain.mode.is_none() => Progress::TakenBack,
        HostState::Stopped => Progress::Drained,
        HostState::Starting
        | HostState::Cordoned
        | HostState::Announcing
        | HostState::Draining
        | HostState::Stopping
        | HostState::Forcing => {
            let left = settle.saturating_sub(Duration::from_millis(drain.since_ms.unwrap_or_default()));
            match (drain.inflight, left) {
                (0, Duration::ZERO) => Progress::Drained,
                (0, left) => Progress::Settling(left),
                (_, _) => Progress::Working,
            }
        }
    }
}

async fn wait(
    client: &Client,
    args: &Args,
    deadline: Option<Instant>,
    mut told: Told<HostDrain>,
) -> Result<Told<HostDrain>, Failure> {
    let mut shown = String::new();
    loop {
        let pause = match progress(&told.body, args.settle) {
            Progress::Drained => return Ok(told),
            Progress::TakenBack => return Err(Failure::TakenBack),
            Progress::Working => WAIT,
            Progress::Settling(left) => left.min(WAIT),
        };
        let load = describe_load(&told.body.by_class);
        if !args.output.json && load != shown {
            out(&format!("{}: {}\n", told.body.id, in_flight(&told.body)));
            shown.clone_from(&load);
        }
        let seen: (BootNonce, u64) = (told.body.boot.clone(), told.body.seq);
        let next = async {
            sleep(PACE).await;
            client.drain_status(Some(&seen), pause).await
        };
        told = tokio::select! {
            told = next => told?,
            () = given_up(deadline) => return Err(Failure::TimedOut { load }),
        };
    }
}

/// At the deadline, or never.
pub(crate) async fn given_up(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn heading(drain: &HostDrain) -> String {
    match drain.state {
        HostState::Cordoned => format!("cordoned, {}", in_flight(drain)),
        HostState::Starting
        | HostState::Serving
        | HostState::Announcing
        | HostState::Draining
        | HostState::Stopping
        | HostState::Stopped
        | HostState::Forcing => format!("{}, {}", drain.state, in_flight(drain)),
    }
}

fn in_flight(drain: &HostDrain) -> String {
    text::in_flight(&drain.by_class, drain.oldest_ms, drain.forecast_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use supervisor_protocol::{ByClass, HostId, SCHEMA};

    use super::*;

    #[test]
    fn f33_an_idle_host_is_drained_only_after_the_routers_have_had_time_to_notice() {
        let at = |state, since_ms, inflight| {
            let drain = HostDrain {
                schema: SCHEMA,
                id: HostId::new("h").unwrap(),
                boot: BootNonce::new("b").unwrap(),
                seq: 1,
                state,
                mode: None,
                since_ms,
                deadline_in_ms: None,
                inflight,
                by_class: ByClass::default(),
                by_service: BTreeMap::new(),
                oldest_ms: 0,
                forecast_ms: 0,
            };
            progress(&drain, Duration::from_secs(8))
        };
        assert_eq!(at(HostState::Cordoned, Some(3_000), 0), Progress::Settling(Duration::from_secs(5)));
        assert_eq!(at(HostState::Cordoned, Some(8_000), 0), Progress::Drained);
        assert_eq!(at(HostState::Cordoned, Some(9_000), 1), Progress::Working);
        assert_eq!(at(HostState::Serving, None, 0), Progress::TakenBack);
        assert_eq!(at(HostState::Stopped, Some(1), 0), Progress::Drained);
    }
}
