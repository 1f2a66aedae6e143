//! `versionctl status`: the host, its catalog, and every generation in one table.

use supervisor_protocol::StreamClass;
use supervisor_protocol::admin::{
    CatalogStatus, DrainOutcome, GenerationStatus, Receipt, SlotStatus, Status, describe_load,
};

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{age, out, out_json, table};

/// So many receipts are shown; `--json` has them all.
const RECEIPTS: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.status().await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

/// Everything, for a person.
pub(crate) fn render(status: &Status) -> String {
    let isolation = &status.isolation;
    let ready = if status.ready { "ready" } else { "not ready" };
    let mut text = format!(
        "host     {}  {}, {ready}  up {}  versiond {}  isolation: {isolation}\n",
        status.host,
        status.state,
        age(status.uptime_ms),
        status.version
    );
    text.push_str(&catalog(&status.catalog));
    text.push('\n');
    if status.slots.is_empty() {
        text.push_str("no slots: the catalog names nothing that runs here\n");
    } else {
        text.push_str(&slots(&status.slots));
    }
    if !status.receipts.is_empty() {
        text.push_str("\nlast drains\n");
        for receipt in status.receipts.iter().take(RECEIPTS) {
            text.push_str(&format!("  {}\n", drained(receipt)));
        }
    }
    text
}

/// The generations of these slots, and what they wait for.
pub(crate) fn slots(slots: &[SlotStatus]) -> String {
    let header = ["SLOT", "GEN", "PHASE", "BUILD", "PID", "PORT", "AGE", "IN FLIGHT", "OLDEST"];
    let mut text = table(&header, slots.iter().flat_map(rows));
    let overrides = slots.iter().filter_map(|slot| Some((&slot.slot, slot.override_file.as_ref()?)));
    for (slot, file) in overrides {
        text.push_str(&format!("  {slot}: override {file}\n"));
    }
    let ways = slots.iter().filter_map(|slot| Some((&slot.slot, slot.way_back.as_ref()?)));
    for (slot, way) in ways {
        let how = way.generation.map_or_else(|| "to be started".to_owned(), |warm| format!("{warm}, warm"));
        text.push_str(&format!("  {slot}: way back {} ({how})\n", way.sha256.short()));
    }
    let reasons = slots.iter().flat_map(|slot| slot.reasons.iter().map(move |reason| (&slot.slot, reason)));
    let waiting: Vec<String> =
        reasons.map(|(slot, reason)| format!("  {slot}: {reason} [{}]\n", reason.code())).collect();
    if !waiting.is_empty() {
        text.push_str("\nwaiting\n");
        text.push_str(&waiting.concat());
    }
    text
}

fn catalog(catalog: &CatalogStatus) -> String {
    let revision = catalog.revision.map_or_else(String::new, |revision| format!("  revision {revision}"));
    let read = match catalog.read_ms_ago {
        Some(ms) => format!("read {} ago", age(ms)),
        None => "not read since the start".to_owned(),
    };
    let mut text = format!("catalog  {}{revision}  {read}\n", catalog.source);
    if let Some(reason) = &catalog.reason {
        text.push_str(&format!("         {reason} [{}]\n", reason.code()));
    }
    text
}

/// One row for each generation; a slot without any has one that says so.
fn rows(slot: &SlotStatus) -> Vec<Vec<String>> {
    let name = slot.slot.to_string();
    if slot.generations.is_empty() {
        let desired = slot.desired.map_or_else(|| "-".to_owned(), |sha256| sha256.short());
        let mut row = vec![name, "-".to_owned(), "nothing runs".to_owned(), desired];
        row.resize(9, "-".to_owned());
        return vec![row];
    }
    slot.generations
        .iter()
        .enumerate()
        .map(|(n, generation)| row(if n == 0 { name.clone() } else { String::new() }, generation))
        .collect()
}

fn row(slot: String, generation: &GenerationStatus) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let idle = generation.inflight == 0;
    vec![
        slot,
        generation.generation.to_string(),
        generation.phase.as_str().to_owned(),
        generation.sha256.short(),
        or_dash(generation.pid.map(|pid| pid.to_string())),
        or_dash(generation.port.map(|port| port.to_string())),
        age(generation.phase_ms),
        if idle { "-".to_owned() } else { describe_load(&generation.by_class) },
        if idle { "-".to_owned() } else { age(generation.oldest_ms) },
    ]
}

/// One receipt in one line. A cut is never left out.
fn drained(receipt: &Receipt) -> String {
    let outcome = match receipt.outcome {
        DrainOutcome::Drained => "drained",
        DrainOutcome::DeadlineCut => "cut at the deadline",
        DrainOutcome::ProcessGone => "the process ended first",
        DrainOutcome::Forced => "forced",
    };
    let successor = receipt.successor.map_or_else(String::new, |successor| format!(" -> {successor}"));
    let cut: u64 = StreamClass::ALL.into_iter().map(|class| *receipt.cut.get(class)).sum();
    let cut = if cut == 0 { "nothing cut".to_owned() } else { format!("CUT {}", describe_load(&receipt.cut)) };
    format!(
        "{} {}{successor}: {outcome} in {}, finished {}, {cut}, longest {}",
        receipt.slot,
        receipt.generation,
        age(receipt.took_ms),
        describe_load(&receipt.finished),
        age(receipt.longest_ms)
    )
}
