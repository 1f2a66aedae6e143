//! What must hold: at every request that ends, and whenever the fleet has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use router_core::choose::{Ask, Spread};
use router_core::members::MemberId;
use router_core::placement::{KeyHash, Placement, Weight};
use supervisor_protocol::{Refusal, Tick};

use crate::client::{ATTEMPTS, Request, key};
use crate::fault::Fault;
use crate::host::{Host, VERSION, window_ms};
use crate::router::Router;

/// Keys that are placed whenever the fleet is at rest.
const KEYS: usize = 64;
/// Beside the window: what an answer may take.
const SLACK_MS: u64 = 500;

/// Nothing in flight, and no policy that asks for it.
pub(crate) const IDLE: Spread<'static> = Spread { turn: 0, inflight: &|_| 0 };

/// P4: what a client was refused: only what may have been executed, and may not be again or has been tried often enough.
pub(crate) fn refused(request: &Request, refusal: Refusal) -> Result<(), String> {
    let was_broken = refusal == Refusal::ChildBroke && request.broke > 0;
    let explained = was_broken && (request.is_post || request.attempts >= ATTEMPTS);
    let told = || format!("P4: a request of session {} was refused with {}", request.session, refusal.code());
    if explained { Ok(()) } else { Err(told()) }
}

/// F52: whatever failed, nothing that is not idempotent runs twice.
pub(crate) fn executed(request: &Request) -> Result<(), String> {
    if request.is_post && request.executed > 1 {
        return Err(format!("F52: a POST of session {} was executed {} times", request.session, request.executed));
    }
    Ok(())
}

/// P9: a host that is cordoned gets no new request once routers have had their window, while others are ready.
pub(crate) fn served(request: &Request, host: &Host, hosts: &[Host], since: Tick, fault: Fault) -> Result<(), String> {
    let Fault::Cordon { mode: supervisor_protocol::contract::DrainMode::All, .. } = fault else { return Ok(()) };
    let late = request.began.0 > since.0 + window_ms() + SLACK_MS;
    let is_cordoned = host.machine.cordon().is_some();
    if late && is_cordoned && hosts.iter().any(Host::is_ready) {
        return Err(format!(
            "P9: {} is cordoned since {} and serves what began at {}",
            host.id, since.0, request.began.0
        ));
    }
    Ok(())
}

/// P8: both routers place every key alike, where the hosts that are ready say.
pub(crate) fn at_rest(routers: &[Router], hosts: &[Host]) -> Result<(), String> {
    let ready: BTreeMap<MemberId, Weight> = hosts
        .iter()
        .filter(|host| host.is_ready())
        .filter_map(|host| Some((MemberId::new(host.id.as_str()).ok()?, Weight::DEFAULT)))
        .collect();
    let expected = Placement::new(ready);
    let version = VERSION.parse().ok();
    for number in 0..KEYS {
        let bytes = key(number);
        let wanted = expected.first(KeyHash::of(&bytes));
        for (at, router) in routers.iter().enumerate() {
            let ask = Ask { key: &bytes, version: version.as_ref(), spread: IDLE };
            let chosen = router.view.choose(&ask, &router.refusals).map(|(choice, _)| choice.id);
            if chosen.as_ref().ok() != wanted {
                return Err(format!("P8: router {at} sends key {number} to {chosen:?}, and {wanted:?} is its host"));
            }
        }
    }
    Ok(())
}

/// Of each session, who served what began when.
#[derive(Default)]
pub(crate) struct Owners(BTreeMap<usize, Vec<(Tick, usize)>>);

impl Owners {
    pub(crate) fn note(&mut self, session: usize, began: Tick, host: usize) {
        self.0.entry(session).or_default().push((began, host));
    }

    /// F49: one window after everything was healed a session has one owner. Returns for how long after the healing
    /// one had two.
    pub(crate) fn settled(&self, healed: Tick) -> Result<u64, String> {
        let mut longest = 0;
        for (session, served) in &self.0 {
            let mut after: Vec<(Tick, usize)> = served.iter().copied().filter(|(began, _)| *began >= healed).collect();
            after.sort_unstable();
            let Some((_, last)) = after.last().copied() else { continue };
            let other = after.iter().rfind(|(_, host)| *host != last);
            let owners: BTreeSet<usize> = after.iter().map(|(_, host)| *host).collect();
            if let Some((began, _)) = other {
                let took = began.since(healed).as_millis().try_into().unwrap_or(u64::MAX);
                longest = longest.max(took);
                if took > window_ms() + SLACK_MS {
                    return Err(format!(
                        "F49: session {session} had the owners {owners:?} until {took} ms after the healing"
                    ));
                }
            }
        }
        Ok(longest)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
