//! `versionctl plan`: what the next change of each slot would be, and what keeps it from being made now.

use supervisor_protocol::admin::{Plan, SlotPlan, SwapStrategy};
use supervisor_protocol::{Sha256, SlotId};

use crate::args::{Output, slot};
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{age, out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this slot.
    #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
    slot: Option<SlotId>,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.plan(self.slot.as_ref()).await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

fn render(plan: &Plan) -> String {
    let mut text = String::new();
    for slot in &plan.slots {
        text.push_str(&format!("{}: {}\n", slot.slot, change(slot)));
        for reason in &slot.blocked_by {
            text.push_str(&format!("  waits: {} [{}]\n", reason.text, reason.reason.code()));
        }
    }
    if text.is_empty() {
        text.push_str("no slots: the catalog names nothing that runs here\n");
    }
    text
}

fn change(slot: &SlotPlan) -> String {
    let short = |sha256: Option<Sha256>| sha256.map_or_else(|| "nothing".to_owned(), |sha256| sha256.short());
    let (serving, desired) = (short(slot.serving), short(slot.desired));
    if slot.serving == slot.desired && slot.strategy.is_none() {
        return format!("{serving} serves, and should");
    }
    let how = match slot.strategy {
        None => "not known yet how".to_owned(),
        Some(SwapStrategy::Overlap) => "beside the old one, clients see nothing".to_owned(),
        Some(SwapStrategy::Hold) => format!("requests wait for about {}", age(slot.away_ms)),
        Some(SwapStrategy::Evacuate) => {
            format!("other hosts serve for about {} meanwhile, one host after the other", age(slot.away_ms))
        }
        Some(SwapStrategy::NeedsWindow) => {
            format!("away for about {}, not without `versionctl approve --accept-downtime`", age(slot.away_ms))
        }
    };
    format!("{serving} -> {desired}, {how}")
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::{ServiceName, VersionName};

    use super::*;

    #[test]
    fn a_plan_says_how_a_change_is_made_and_how_long_it_takes() {
        let id = SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1").unwrap() };
        let (a, b) = ("a".repeat(64).parse().unwrap(), "b".repeat(64).parse().unwrap());
        let at = |serving, desired, strategy, away_ms| SlotPlan {
            slot: id.clone(),
            serving,
            desired,
            strategy,
            away_ms,
            blocked_by: Vec::new(),
        };
        for (slot, text) in [
            (at(Some(a), Some(a), None, 0), "aaaaaaaa serves, and should"),
            (at(None, Some(a), None, 0), "nothing -> aaaaaaaa, not known yet how"),
            (
                at(Some(a), Some(b), Some(SwapStrategy::Overlap), 0),
                "aaaaaaaa -> bbbbbbbb, beside the old one, clients see nothing",
            ),
            (
                at(Some(a), Some(b), Some(SwapStrategy::Hold), 3_000),
                "aaaaaaaa -> bbbbbbbb, requests wait for about 3 s",
            ),
            (
                at(Some(a), Some(b), Some(SwapStrategy::NeedsWindow), 300_000),
                "aaaaaaaa -> bbbbbbbb, away for about 5 min, not without `versionctl approve --accept-downtime`",
            ),
        ] {
            assert_eq!(change(&slot), text);
        }
    }
}
