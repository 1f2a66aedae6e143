//! What a pool should make of what it has heard, said as plainly as it can be: a few facts of each host.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::contract::DrainMode;

/// What has been heard of one host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) heard: Option<Heard>,
    pub(crate) misses: u32,
    pub(crate) silent: Option<Tick>,
    pub(crate) successes: u32,
}

/// Its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) child: bool,
    pub(crate) boot: u32,
    pub(crate) cordon: Option<(Tick, DrainMode)>,
}

impl Facts {
    pub(crate) fn word(&mut self, child: bool, cordon: Option<DrainMode>, boot: u32, now: Tick) {
        // A cordon that is found again after a restart is told anew.
        let before = self.heard.filter(|heard| heard.boot == boot).and_then(|heard| heard.cordon);
        let since = before.map_or(now, |(since, _)| since);
        self.heard = Some(Heard { child, boot, cordon: cordon.map(|mode| (since, mode)) });
        self.misses = 0;
        let says_no = cordon.is_some() || !child;
        self.successes += 1;
        if self.silent.is_some() && (says_no || self.successes >= 2) {
            self.silent = None;
        }
    }

    pub(crate) fn miss(&mut self, enough: u32, now: Tick) {
        self.successes = 0;
        self.misses += enough;
        if self.misses >= 2 && self.silent.is_none() {
            self.silent = Some(now);
        }
    }

    pub(crate) fn overload(&mut self) {
        self.misses = 0;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.silent.is_none() && self.was_ready()
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.heard.is_some_and(|heard| heard.child && heard.cordon.is_none())
    }

    pub(crate) fn cordoned(&self) -> Option<(Tick, DrainMode)> {
        self.heard.filter(|heard| heard.child && self.silent.is_none())?.cordon
    }
}

/// Those that must be tried although they are silent, at the least: of the last event.
pub(crate) fn must_keep(facts: &BTreeMap<String, Facts>, window: Duration) -> Vec<&String> {
    let ready = facts.values().filter(|facts| facts.is_ready()).count();
    let silent =
        || facts.iter().filter(|(_, facts)| facts.was_ready()).filter_map(|(id, facts)| Some((id, facts.silent?)));
    let Some(last) = silent().map(|(_, since)| since).max() else { return Vec::new() };
    let taken: Vec<&String> = silent().filter(|(_, since)| last.since(*since) <= window).map(|(id, _)| id).collect();
    if ready == 0 || taken.len() > ready { taken } else { Vec::new() }
}

/// Everybody who may be chosen where nobody is kept, with the role that it has.
pub(crate) fn roles(facts: &BTreeMap<String, Facts>) -> BTreeMap<&String, &'static str> {
    let has_ready = facts.values().any(Facts::is_ready);
    let role = |facts: &Facts| match facts.cordoned() {
        _ if facts.is_ready() => Some("ready"),
        Some((_, DrainMode::Sessions)) => Some("sessions"),
        Some((_, DrainMode::All)) if !has_ready => Some("cordoned"),
        Some((_, DrainMode::All)) | None => None,
    };
    facts.iter().filter_map(|(id, facts)| Some((id, role(facts)?))).collect()
}

/// The one that was cordoned last, of those that still admit.
pub(crate) fn last_cordoned(facts: &BTreeMap<String, Facts>) -> Option<&String> {
    let cordoned = facts.iter().filter_map(|(id, facts)| Some((facts.cordoned()?.0, id)));
    cordoned.max_by(|(a, of_a), (b, of_b)| a.cmp(b).then_with(|| of_b.cmp(of_a))).map(|(_, id)| id)
}
