//! `versionctl catalog`: what is in force, what a document would do, and reading the source now.

use camino::Utf8PathBuf;
use supervisor_protocol::catalog::{
    CatalogCheck, CatalogOrigin, CatalogReport, CatalogSlot, CheckDocument, CheckRequest, CheckedSlot, StagedRelease,
    StagedState,
};

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::offline::Offline;
use crate::text::{age, out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What a document would do on this host, slot by slot, or why it would be refused and where.
    Check(CheckArgs),
    /// Have the source read now.
    Accept(AcceptArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A file, with its signature beside it in FILE.minisig where one is asked for; or an address, which the
    /// daemon reads by the rules for its source.
    #[arg(value_name = "FILE|URL")]
    document: String,
    /// As the successor of what is in force, with its revision and its removals; else as a first document.
    #[arg(long)]
    against: bool,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct AcceptArgs {
    /// Take what it says as if it were the first document: its revision may be lower, or jump.
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let Args { command, output } = self;
        let (told, json) = match command {
            None => (client.catalog().await?, output.json),
            Some(Command::Accept(args)) => (client.accept(args.reset).await?, args.output.json),
            Some(Command::Check(args)) => return args.run(client).await,
        };
        if json {
            out_json(&told.json);
        } else {
            out(&render(&told.body));
        }
        Ok(())
    }
}

impl CheckArgs {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        if self.offline.is_asked_for() {
            return self.offline.run(document(&self.document)?, &self.document, self.output.json);
        }
        let request = CheckRequest { document: document(&self.document)?, against: self.against };
        let told = client.check(&request).await?;
        if self.output.json {
            out_json(&told.json);
        } else {
            out(&render_check(&told.body));
        }
        Ok(())
    }
}

/// The document itself when it is a file here, so that the daemon need not be able to read it.
fn document(given: &str) -> Result<CheckDocument, Failure> {
    if given.starts_with("https://") || given.starts_with("http://") {
        return Ok(CheckDocument::Url { url: given.to_owned() });
    }
    let path = Utf8PathBuf::from(given.strip_prefix("file:").unwrap_or(given));
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::Document { path: path.clone(), source })?;
    let beside = Utf8PathBuf::from(format!("{path}.minisig"));
    let signature = match std::fs::read_to_string(&beside) {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(Failure::Document { path: beside, source }),
    };
    Ok(CheckDocument::Text { text, signature })
}

fn render(report: &CatalogReport) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:9} {value}\n"));
    line("source", report.status.source.clone());
    line("origin", origin(report));
    if let Some(revision) = report.status.revision {
        line("revision", revision.to_string());
    }
    match (&report.height, &report.height_unknown) {
        (Some(height), None) => line("height", height.to_string()),
        (Some(height), Some(why)) => line("height", format!("{height} at least; now unknown: {why}")),
        (None, Some(why)) => line("height", format!("unknown: {why}")),
        (None, None) => {}
    }
    line("signed", if report.signed { "by the configured key".to_owned() } else { "no key is configured".to_owned() });
    if let Some(reason) = &report.status.reason {
        line("reason", format!("{reason} ({})", reason.code()));
    }
    if report.reset {
        line("reset", "the next document is taken as a first one".to_owned());
    }
    for slot in &report.slots {
        text.push_str(&format!("{}  {}\n", slot.slot, wanted(slot)));
        details(&mut text, slot);
    }
    for sha256 in &report.deny {
        text.push_str(&format!("denied    {sha256}\n"));
    }
    text
}

fn origin(report: &CatalogReport) -> String {
    match (report.origin, report.status.read_ms_ago) {
        (CatalogOrigin::None, _) => "nothing is known yet".to_owned(),
        (CatalogOrigin::Kept, _) => "kept from before the start, not confirmed since".to_owned(),
        (CatalogOrigin::KeptOfAnother, _) => "kept, of another source or key: no revision is known".to_owned(),
        (CatalogOrigin::Read, Some(ago)) => format!("read {} ago", age(ago)),
        (CatalogOrigin::Read, None) => "read".to_owned(),
    }
}

pub(crate) fn render_check(check: &CatalogCheck) -> String {
    let mut text = match check.revision {
        Some(revision) => format!("well-formed, revision {revision}\n"),
        None => "well-formed, without a revision\n".to_owned(),
    };
    let width = check.slots.iter().map(|slot| slot.after.slot.to_string().len()).max().unwrap_or(0);
    for CheckedSlot { after, before, change } in &check.slots {
        let from = before.map_or_else(String::new, |before| format!(" (now {})", before.short()));
        let slot = after.slot.to_string();
        text.push_str(&format!("{slot:width$}  {:9} {}{from}\n", change.as_str(), wanted(after)));
        details(&mut text, after);
    }
    for sha256 in &check.deny {
        text.push_str(&format!("denies {sha256}\n"));
    }
    for warning in &check.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

fn wanted(slot: &CatalogSlot) -> String {
    let sha256 = slot.sha256.map_or_else(|| "-".to_owned(), |sha256| sha256.short());
    let since = slot.since_height.map_or_else(String::new, |height| format!(", since height {height}"));
    let file = slot.override_file.as_ref().map_or_else(String::new, |file| format!(", override {file}"));
    format!("{sha256}{since}{file}")
}

fn details(text: &mut String, slot: &CatalogSlot) {
    if let Some(reason) = &slot.reason {
        text.push_str(&format!("    {reason} ({})\n", reason.code()));
    }
    for StagedRelease { height, sha256, state } in &slot.staged {
        let state = match state {
            StagedState::Waiting => "not here yet".to_owned(),
            StagedState::Fetched => "in the store".to_owned(),
            StagedState::Failed { detail } => format!("cannot be fetched: {detail}"),
        };
        text.push_str(&format!("    from height {height}: {}, {state}\n", sha256.short()));
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::admin::CatalogStatus;
    use supervisor_protocol::catalog::Change;
    use supervisor_protocol::{Reason, SCHEMA, ServiceName, Sha256, SlotId, VersionName};

    use super::*;

    fn slot(name: &str, of: u8) -> CatalogSlot {
        CatalogSlot {
            slot: SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new(name).unwrap() },
            sha256: (of > 0).then_some(Sha256([of; 32])),
            since_height: None,
            override_file: None,
            reason: None,
            staged: Vec::new(),
        }
    }

    #[test]
    fn a_report_says_where_it_comes_from_and_what_waits() {
        let staged = StagedRelease {
            height: 200,
            sha256: Sha256([2; 32]),
            state: StagedState::Failed { detail: "no route".to_owned() },
        };
        let reason = Some(Reason::NotYetActive { height: Some(150), activates_at: 200 });
        let report = CatalogReport {
            schema: SCHEMA,
            status: CatalogStatus {
                source: "file:/c".to_owned(),
                revision: Some(7),
                read_ms_ago: Some(2_000),
                reason: None,
            },
            origin: CatalogOrigin::Read,
            signed: false,
            reset: true,
            height: Some(150),
            height_unknown: Some("the node is silent".to_owned()),
            slots: vec![CatalogSlot { reason, staged: vec![staged], ..slot("v1", 1) }],
            deny: vec![Sha256([9; 32])],
        };
        let text = render(&report);
        for part in [
            "source    file:/c\n",
            "revision  7\n",
            "150 at least; now unknown: the node is silent",
            "demo/v1  01010101\n",
            "(not_yet_active)",
            "from height 200: 02020202, cannot be fetched: no route",
            "first one",
            "denied    0909",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_check_says_what_becomes_of_each_slot() {
        let checked = |after, before: u8, change| {
            let before = (before > 0).then_some(Sha256([before; 32]));
            CheckedSlot { after, before, change }
        };
        let missing = Some(Reason::Unservable { detail: "no artifact".to_owned() });
        let check = CatalogCheck {
            schema: SCHEMA,
            revision: None,
            slots: vec![
                checked(slot("v1", 2), 1, Change::Swap),
                checked(slot("v10", 0), 3, Change::Remove),
                checked(CatalogSlot { reason: missing, ..slot("v2", 0) }, 0, Change::Blocked),
            ],
            deny: Vec::new(),
            warnings: vec!["not signed".to_owned()],
        };
        assert_eq!(
            render_check(&check),
            "well-formed, without a revision\n\
             demo/v1   swap      02020202 (now 01010101)\n\
             demo/v10  remove    - (now 03030303)\n\
             demo/v2   blocked   -\n    cannot be served here: no artifact (unservable)\n\
             warning: not signed\n"
        );
    }
}
