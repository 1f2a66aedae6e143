//! `versionctl fetch`: an artifact comes into the store ahead, with a bar; and `artifacts`, what is there.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use http::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use supervisor_protocol::Sha256;
use supervisor_protocol::admin::{ArtifactList, ArtifactState, ArtifactStatus, FetchRequest};
use tokio::time::sleep;

use crate::args::{Output, slot};
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{bytes, err, out, out_json, short, table};

/// How often the daemon is asked how far it is.
const PACE: Duration = Duration::from_millis(200);
/// The daemon looks at its disk.
const ANSWER: Duration = Duration::from_secs(30);
/// Elsewhere than on a terminal, a line for so many parts of a hundred.
const STEP: u64 = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A slot, whose wanted artifact is fetched, or an address.
    #[arg(value_name = "SERVICE/VERSION|URL")]
    what: String,
    /// What the bytes behind the address hash to.
    #[arg(long, value_name = "SHA256")]
    sha256: Option<Sha256>,
    /// The member of an archive behind the address that is the program.
    #[arg(long, requires = "sha256", value_name = "NAME")]
    entry: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: Output,
}

impl Args {
    /// Until it is there or has failed.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let json = self.output.json;
        let request = self.request()?;
        let body = serde_json::to_string(&request).unwrap_or_default();
        let begun = client.exchange::<ArtifactStatus>(Method::POST, "/v1/artifacts", body, ANSWER).await?;
        let sha256 = begun.body.sha256;
        let mut shown = Shown::new(&sha256);
        loop {
            let list = client.send::<ArtifactList>(Method::GET, "/v1/artifacts", ANSWER).await?;
            let Some(status) = list.body.artifacts.into_iter().find(|one| one.sha256 == sha256) else {
                // It has not begun yet.
                sleep(PACE).await;
                continue;
            };
            shown.update(&status);
            let is_under_way = match status.state {
                ArtifactState::Queued | ArtifactState::Fetching | ArtifactState::Unpacking => true,
                ArtifactState::Absent | ArtifactState::Partial | ArtifactState::Incomplete => status.reason.is_none(),
                ArtifactState::Installed | ArtifactState::Failed => false,
            };
            if is_under_way {
                sleep(PACE).await;
                continue;
            }
            shown.end();
            if json {
                out_json(&serde_json::to_value(&status).unwrap_or_default());
            } else if status.state == ArtifactState::Installed {
                out(&format!("{sha256} is in the store\n"));
            }
            return match status.reason.filter(|_| status.state != ArtifactState::Installed) {
                Some(reason) => Err(Failure::NotFetched(reason)),
                None => Ok(()),
            };
        }
    }

    fn request(self) -> Result<FetchRequest, Failure> {
        match (self.what.contains("://"), self.sha256) {
            (true, Some(sha256)) => Ok(FetchRequest::Address { url: self.what, sha256, entry: self.entry }),
            (true, None) => Err(Failure::Usage("an address needs --sha256: nothing is fetched without a hash")),
            (false, Some(_)) => Err(Failure::Usage("--sha256 goes with an address; a slot knows its own")),
            (false, None) => match slot(&self.what) {
                Ok(slot) => Ok(FetchRequest::Slot { slot: slot.to_string() }),
                Err(_) => Err(Failure::Usage("expected SERVICE/VERSION, or an address with --sha256")),
            },
        }
    }
}

impl ListArgs {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.send::<ArtifactList>(Method::GET, "/v1/artifacts", ANSWER).await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

fn render(list: &ArtifactList) -> String {
    if list.artifacts.is_empty() {
        return "the store is empty\n".to_owned();
    }
    let row = |one: &ArtifactStatus| {
        let used: Vec<String> = one.used.iter().map(|used| format!("{} {}", used.slot, used.how.as_str())).collect();
        let reason = one.reason.as_ref().map(|reason| format!("{reason} [{}]", reason.code()));
        let size = if one.size > 0 { bytes(one.size) } else { progress(one).unwrap_or_default() };
        vec![short(&one.sha256), one.state.as_str().to_owned(), size, used.join(", "), reason.unwrap_or_default()]
    };
    table(&["artifact", "state", "size", "used by", "last failure"], list.artifacts.iter().map(row))
}

/// `12 MiB of 40 MiB`.
fn progress(one: &ArtifactStatus) -> Option<String> {
    let received = one.received?;
    Some(match one.total {
        Some(total) => format!("{} of {}", bytes(received), bytes(total)),
        None => bytes(received),
    })
}

/// The way of one fetch: a bar on a terminal, lines elsewhere, both on standard error.
enum Shown {
    Bar(ProgressBar),
    Lines { name: String, state: Option<ArtifactState>, step: Option<u64> },
}

impl Shown {
    fn new(sha256: &Sha256) -> Shown {
        let name = short(sha256);
        if !io::stderr().is_terminal() {
            return Shown::Lines { name, state: None, step: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{prefix} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        // A template that does not parse leaves the usual one.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(name);
        Shown::Bar(bar)
    }

    fn update(&mut self, status: &ArtifactStatus) {
        match self {
            Shown::Bar(bar) => {
                bar.set_message(status.state.as_str());
                if let Some(total) = status.total {
                    bar.set_length(total);
                }
                bar.set_position(status.received.unwrap_or_default());
            }
            Shown::Lines { name, state, step } => {
                let parts = status.received.zip(status.total.filter(|total| *total > 0));
                let now = parts.map(|(received, total)| received.saturating_mul(100) / total / STEP);
                let moved = status.state == ArtifactState::Fetching && now != *step;
                if *state != Some(status.state) || moved {
                    let progress = progress(status).map(|text| format!(" {text}")).unwrap_or_default();
                    err(&format!("{name} {}{progress}", status.state.as_str()));
                    (*state, *step) = (Some(status.state), now);
                }
            }
        }
    }

    fn end(&self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
