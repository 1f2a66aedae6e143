//! What every request of the data plane reads: the routes, and of each pool who may be chosen now.
//!
//! A [`Roster`] is replaced whole. Must not live here: how it comes about (that is `keeper`), and any choice
//! (that is `router-core`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use router_core::choose::{self, Ask, Lookup, Next, Search, Spread, Unavailable};
use router_core::drain::Refusals;
use router_core::members::MemberId;
use router_core::pattern::{Found, Routes};
use router_core::view::View;
use router_dataplane::{Attempt, Choices, Failed, Placed, Pools, Refused, Stamps, Target};
use supervisor_protocol::{Refusal, VersionName};

/// One pool as requests see it.
pub(crate) struct Front {
    name: String,
    roster: ArcSwap<Roster>,
    /// What hosts that drain session by session did not admit.
    refusals: Mutex<Refusals>,
    /// Counts the requests.
    turn: AtomicU64,
    stamps: Stamps,
}

/// `Devshard-Ha`.
const DEVSHARD_HA: HeaderName = HeaderName::from_static("devshard-ha");

/// Who may be chosen, and where they are.
pub(crate) struct Roster {
    pub(crate) view: View,
    pub(crate) targets: BTreeMap<MemberId, Arc<Target>>,
}

/// Every pool, and which paths lead there.
pub(crate) struct Directory {
    routes: Routes<Arc<Front>>,
}

/// One request of a pool.
struct Chosen {
    front: Arc<Front>,
    search: Search,
}

impl Front {
    /// `ha`: what its requests are told of the deployment.
    pub(crate) fn new(name: String, roster: Roster, ha: Option<bool>) -> Arc<Front> {
        let told = |ha: bool| (DEVSHARD_HA, ha.then(|| HeaderValue::from_static("true")));
        Arc::new(Front {
            name,
            roster: ArcSwap::from_pointee(roster),
            refusals: Mutex::default(),
            turn: AtomicU64::new(0),
            stamps: ha.map(told).into_iter().collect(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Requests since the start.
    pub(crate) fn requests(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Requests go by this from now on.
    pub(crate) fn publish(&self, roster: Roster) {
        self.refusals.lock().follow(&roster.view.session_drains());
        self.roster.store(Arc::new(roster));
    }

    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Everything about the choice for a key.
    pub(crate) fn lookup(&self, key: &[u8], version: Option<&VersionName>) -> Lookup {
        let (roster, turn) = (self.roster.load(), self.turn.load(Ordering::Relaxed));
        let ask = Ask { key, version, spread: Spread { turn, inflight: &roster.inflight() } };
        roster.view.lookup(&ask, &self.refusals.lock())
    }

    fn begin(self: &Arc<Self>, key: &[u8], version: Option<&VersionName>) -> Result<Placed, Refused> {
        let (roster, turn) = (self.roster.load(), self.turn.fetch_add(1, Ordering::Relaxed));
        let ask = Ask { key, version, spread: Spread { turn, inflight: &roster.inflight() } };
        let chosen = roster.view.choose(&ask, &self.refusals.lock());
        let (choice, search) = chosen.map_err(unavailable)?;
        let first = roster.attempt(choice)?;
        let (choices, stamps) = (Box::new(Chosen { front: self.clone(), search }), self.stamps.clone());
        Ok(Placed { first, choices, class: None, stamps })
    }
}

impl Roster {
    fn inflight(&self) -> impl Fn(&MemberId) -> u64 {
        |id| self.targets.get(id).map_or(0, |target| target.inflight())
    }

    fn attempt(&self, choice: choose::Choice) -> Result<Attempt, Refused> {
        let target = self.targets.get(&choice.id).cloned().ok_or(unavailable(Unavailable::NotReady))?;
        let is_last_resort = match choice.attempt {
            choose::Attempt::Ordinary => false,
            choose::Attempt::LastResort => true,
        };
        Ok(Attempt { target, is_last_resort })
    }
}

impl Choices for Chosen {
    fn failed(&mut self, failed: Failed) -> Result<Attempt, Refused> {
        let front = &self.front;
        let (roster, turn) = (front.roster.load(), front.turn.load(Ordering::Relaxed));
        let inflight = roster.inflight();
        let spread = Spread { turn, inflight: &inflight };
        match roster.view.failed(&mut self.search, failed, spread, &mut front.refusals.lock()) {
            Next::Try(choice) => roster.attempt(choice),
            Next::GiveUp(refusal) => Err(Refused { refusal, retry_after_s: None }),
        }
    }
}

impl Directory {
    pub(crate) fn new(routes: Routes<Arc<Front>>) -> Directory {
        Directory { routes }
    }

    /// Where a path leads, without a request for it.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Found<'_, 'p, Arc<Front>> {
        self.routes.find(path)
    }
}

impl Pools for Directory {
    fn begin(&self, path: &str) -> Result<Placed, Refused> {
        match self.routes.find(path) {
            Found::Reserved | Found::Unrouted => Err(Refused { refusal: Refusal::NotFound, retry_after_s: None }),
            Found::Routed(routed) => routed.to.begin(routed.key.as_bytes(), routed.version.as_ref()),
        }
    }
}

const fn unavailable(reason: Unavailable) -> Refused {
    let refusal = match reason {
        Unavailable::UnknownVersion => Refusal::UnknownVersion,
        Unavailable::NoMember | Unavailable::VersionNotReady | Unavailable::NotReady => Refusal::NoHost,
    };
    Refused { refusal, retry_after_s: None }
}
