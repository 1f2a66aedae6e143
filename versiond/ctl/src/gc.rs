//! `versionctl gc`: what the store gives up, and why the rest stays.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use supervisor_protocol::admin::{GcCause, GcReport, KeptFor};

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{age, bytes, out, out_json, short, table};

/// Large trees on a slow disk take their time.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = if self.dry_run { "/v1/artifacts/gc?dry_run=true" } else { "/v1/artifacts/gc" };
        let told = client.send::<GcReport>(Method::POST, path, LIMIT).await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

fn render(report: &GcReport) -> String {
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    let gone = report.removed.iter().map(|gone| {
        let why = match gone.why {
            GcCause::Unused => "nothing needs it, and three newer ones are kept",
            GcCause::Incomplete => "never finished, and older than a day",
        };
        vec![short(&gone.sha256), bytes(gone.bytes), verb.to_owned(), why.to_owned()]
    });
    let kept = report.kept.iter().map(|kept| {
        let why: Vec<String> = kept.why.iter().map(because).collect();
        vec![short(&kept.sha256), bytes(kept.bytes), "kept".to_owned(), why.join(", ")]
    });
    let mut text = table(&["artifact", "size", "", "why"], gone.chain(kept));
    let freed = report.removed.iter().map(|gone| gone.bytes).sum();
    // Writing to a string does not fail.
    writeln!(text, "{} {verb}, {}; {} kept", report.removed.len(), bytes(freed), report.kept.len()).ok();
    text
}

fn because(why: &KeptFor) -> String {
    match why {
        KeptFor::Use(used) => format!("{} {}", used.slot, used.how.as_str()),
        KeptFor::Newest => "one of the three newest that nothing needs".to_owned(),
        KeptFor::Young { left_ms } => format!("unfinished, left alone for {} more", age(*left_ms)),
        KeptFor::JustAsked => "just asked for".to_owned(),
        KeptFor::UsedElsewhere => "another supervisor on this store uses it".to_owned(),
        KeptFor::Stuck { detail } => format!("cannot be removed: {detail}"),
    }
}
