//! What a document would do, slot by slot: on a host, by what that follows, or by itself, where no host is known.
//!
//! Must not live here: who is believed, and what is done about any of it.

use std::collections::BTreeSet;

use supervisor_protocol::catalog::{CatalogCheck, CatalogSlot, Change, CheckedSlot, StagedRelease, StagedState};
use supervisor_protocol::{SCHEMA, ServiceName, Sha256, SlotId, Tick};

use super::parse::{CatalogError, ParseContext, Services, parse};
use super::tracker::{Refused, Tracker};
use super::url::UrlRules;
use super::{Catalog, Desired, Entry, Intent, Release};

/// What the document would do to what is wanted now, as the successor of what is followed.
pub fn check(document: Catalog, followed: &Tracker, before: &Desired, now: Tick) -> Result<CatalogCheck, Refused> {
    let revision = document.revision;
    let after = followed.observe(document, now)?.desired();
    let slots: BTreeSet<&SlotId> = after.slots.keys().chain(before.slots.keys()).collect();
    let slots = slots.into_iter().map(|slot| checked(slot, before, &after)).collect();
    let mut warnings = Vec::new();
    if revision.is_none() {
        warnings.push("no revision: what it leaves out goes after three identical readings over a minute".to_owned());
    }
    Ok(CatalogCheck { schema: SCHEMA, revision, slots, deny: after.deny.into_iter().collect(), warnings })
}

/// Reads a document where no host is known: each of its services counts as configured, and each address that a
/// host could be told to use as usable. `service` is for formats that name none.
pub fn parse_anywhere(bytes: &[u8], service: Option<ServiceName>, platform: &str) -> Result<Catalog, CatalogError> {
    let urls = UrlRules { http: true, file: true, loopback: true, private: true };
    parse(bytes, &ParseContext { service, platform: platform.to_owned(), urls, services: Services::Any })
}

/// What of a document would not be served, and does not show in what is in effect at once: releases to come, and
/// names that some routes cannot have.
#[must_use]
pub fn doubts(document: &Catalog) -> Vec<String> {
    let mut doubts = Vec::new();
    for (slot, entry) in document.entries() {
        if slot.name.is_reserved() {
            doubts
                .push(format!("{slot} is not served where a route begins with {{version}}: it is a path of the host"));
        }
        let Entry::Releases(releases) = entry else { continue };
        for (height, release) in releases.iter() {
            if let (Some(height), Release::Blocked(reason)) = (height, release) {
                doubts.push(format!("{slot} from height {height}: {reason}"));
            }
        }
    }
    doubts
}

fn checked(slot: &SlotId, before: &Desired, after: &Desired) -> CheckedSlot {
    let hash = |desired: &Desired| desired.slots.get(slot)?.artifact.as_ref().map(|artifact| artifact.sha256);
    let (old, new) = (hash(before), hash(after));
    let change = match (after.slots.contains_key(slot), old, new) {
        (false, ..) => Change::Remove,
        (true, _, None) => Change::Blocked,
        (true, None, Some(_)) => Change::Start,
        (true, Some(old), Some(new)) if old == new => Change::Unchanged,
        (true, Some(_), Some(_)) => Change::Swap,
    };
    let intent = after.slots.get(slot).cloned().unwrap_or_default();
    CheckedSlot { after: shown(slot, &intent, |_| StagedState::Waiting), before: old, change }
}

/// A slot's intent as the API shows it.
pub fn shown(slot: &SlotId, intent: &Intent, state: impl Fn(&Sha256) -> StagedState) -> CatalogSlot {
    let staged = intent.staged.iter().map(|staged| StagedRelease {
        height: staged.height,
        sha256: staged.artifact.sha256,
        state: state(&staged.artifact.sha256),
    });
    CatalogSlot {
        slot: slot.clone(),
        sha256: intent.artifact.as_ref().map(|artifact| artifact.sha256),
        since_height: intent.since_height,
        override_file: intent.override_file.clone(),
        reason: intent.blocked.clone(),
        staged: staged.collect(),
    }
}
