//! `versionctl watch`: the status as it changes. On a terminal it is drawn anew; elsewhere each change
//! is one line, so that it can be kept as a log.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use supervisor_protocol::admin::Status;
use supervisor_protocol::{BootNonce, Generation, SlotId};
use tokio::time::sleep;

use crate::client::Client;
use crate::failure::Failure;
use crate::status::render;
use crate::text::out;

/// Ages and counts move without a change of state; so often they are shown anew.
const WAIT: Duration = Duration::from_secs(2);
/// Between two pictures, and between two attempts while the daemon is away.
const PACE: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    /// Until interrupted. Only a daemon that is not there from the first is a failure.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let redraw = io::stdout().is_terminal();
        let mut seen: Option<Seen> = None;
        let mut since: Option<(BootNonce, u64)> = None;
        let mut away = false;
        loop {
            // Asked first, so that a change between the two answers is seen by the next round.
            let round = async {
                let drain = client.drain_status(since.as_ref(), WAIT).await?;
                Ok((drain.body, client.status().await?.body))
            };
            match round.await {
                Ok((drain, status)) => {
                    since = Some((drain.boot, drain.seq));
                    away = false;
                    let now = Seen::of(&status);
                    if redraw {
                        // To the top left, the picture, and nothing below it.
                        out(&format!("\x1b[H\x1b[2J{}", render(&status)));
                    } else {
                        now.changes(seen.as_ref()).iter().for_each(|line| out(&format!("{line}\n")));
                    }
                    seen = Some(now);
                }
                Err(error @ (Failure::Unreachable { .. } | Failure::Exchange { .. })) if seen.is_some() => {
                    since = None;
                    if !away {
                        out(&format!("versiond is away: {error}\n"));
                    }
                    away = true;
                }
                Err(error) => return Err(error),
            }
            sleep(PACE).await;
        }
    }
}

/// What of a status is worth a line when it changes: one text for each thing.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    host: String,
    catalog: String,
    generations: BTreeMap<(SlotId, Generation), &'static str>,
    /// By slot and code, so that a countdown within a reason is not a change.
    reasons: BTreeMap<(SlotId, &'static str), String>,
}

impl Seen {
    fn of(status: &Status) -> Self {
        let ready = if status.ready { "ready" } else { "not ready" };
        let revision = status.catalog.revision.map_or_else(String::new, |revision| format!(" revision {revision}"));
        let trouble = status.catalog.reason.as_ref().map_or_else(String::new, |reason| format!(", {}", reason.code()));
        let slots = || status.slots.iter();
        Self {
            host: format!("host {} {}, {ready}", status.host, status.state),
            catalog: format!("catalog {}{revision}{trouble}", status.catalog.source),
            generations: slots()
                .flat_map(|slot| slot.generations.iter().map(move |generation| (slot, generation)))
                .map(|(slot, generation)| ((slot.slot.clone(), generation.generation), generation.phase.as_str()))
                .collect(),
            reasons: slots()
                .flat_map(|slot| slot.reasons.iter().map(move |reason| (slot, reason)))
                .map(|(slot, reason)| ((slot.slot.clone(), reason.code()), reason.to_string()))
                .collect(),
        }
    }

    /// One line for each difference from `before`; everything, when there is none.
    fn changes(&self, before: Option<&Seen>) -> Vec<String> {
        let mut lines = Vec::new();
        if before.is_none_or(|before| before.host != self.host) {
            lines.push(self.host.clone());
        }
        if before.is_none_or(|before| before.catalog != self.catalog) {
            lines.push(self.catalog.clone());
        }
        for (key @ (slot, generation), phase) in &self.generations {
            match before.and_then(|before| before.generations.get(key)) {
                Some(earlier) if earlier == phase => {}
                Some(earlier) => lines.push(format!("{slot} {generation} {earlier} -> {phase}")),
                None => lines.push(format!("{slot} {generation} {phase}")),
            }
        }
        for (slot, generation) in before.iter().flat_map(|before| before.generations.keys()) {
            if !self.generations.contains_key(&(slot.clone(), *generation)) {
                lines.push(format!("{slot} {generation} gone"));
            }
        }
        for (key @ (slot, code), text) in &self.reasons {
            if before.is_none_or(|before| !before.reasons.contains_key(key)) {
                lines.push(format!("{slot} waits: {text} [{code}]"));
            }
        }
        for (slot, code) in before.iter().flat_map(|before| before.reasons.keys()) {
            if !self.reasons.contains_key(&(slot.clone(), *code)) {
                lines.push(format!("{slot} no longer waits [{code}]"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::{ServiceName, VersionName};

    use super::*;

    #[test]
    fn only_what_changed_is_a_line() {
        let slot = SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1").unwrap() };
        let seen = |phases: &[(u64, &'static str)], reason: Option<&str>| Seen {
            host: "host h serving, ready".to_owned(),
            catalog: "catalog c".to_owned(),
            generations: phases.iter().map(|(n, phase)| ((slot.clone(), Generation(*n)), *phase)).collect(),
            reasons: reason.iter().map(|text| ((slot.clone(), "draining"), (*text).to_owned())).collect(),
        };
        let first = seen(&[(1, "serving")], None);
        assert_eq!(first.changes(None).len(), 3);
        assert_eq!(first.changes(Some(&first)), Vec::<String>::new());
        let second = seen(&[(1, "draining"), (2, "serving")], Some("9 s left"));
        assert_eq!(
            second.changes(Some(&first)),
            ["demo/v1 g1 serving -> draining", "demo/v1 g2 serving", "demo/v1 waits: 9 s left [draining]"]
        );
        assert_eq!(seen(&[(1, "draining"), (2, "serving")], Some("8 s left")).changes(Some(&second)), [""; 0]);
        assert_eq!(
            seen(&[(2, "serving")], None).changes(Some(&second)),
            ["demo/v1 g1 gone", "demo/v1 no longer waits [draining]"]
        );
    }
}
