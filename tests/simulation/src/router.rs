//! A simulated router: a pool, the view that requests go by, and one check for each address.

use std::collections::BTreeMap;
use std::time::Duration;

use router_core::drain::Refusals;
use router_core::members::{Address, Answer, Listed, Listing, Silence, Views};
use router_core::pool::{Pool, PoolSettings, Remembered, Versions};
use router_core::view::View;
use supervisor_protocol::{BootNonce, Tick};
use versiond_router::pace::{Before, Came, Pace};

use crate::Sabotage;

/// The defaults of the product.
pub(crate) fn pace() -> Pace {
    Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(3) }
}

/// The check of one address.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) before: Before,
    /// The question that is under way.
    pub(crate) question: Option<u64>,
    /// The last word of the host there.
    pub(crate) last: Option<(BootNonce, u64)>,
}

pub(crate) struct Router {
    pub(crate) pool: Pool,
    pub(crate) view: View,
    pub(crate) refusals: Refusals,
    pub(crate) checks: BTreeMap<Address, Check>,
    /// Whether it takes requests.
    pub(crate) is_up: bool,
    /// Counts its lives: what is under way of an earlier one means nothing.
    pub(crate) life: u64,
    revision: Option<u64>,
    /// On its disk.
    remembered: Remembered,
    settings: PoolSettings,
}

impl Router {
    pub(crate) fn new(sabotage: Option<Sabotage>, now: Tick) -> Router {
        let settings = settings(sabotage);
        let pool = Pool::new(settings.clone(), now);
        let view = pool.view();
        Router {
            pool,
            view,
            refusals: Refusals::default(),
            checks: BTreeMap::new(),
            is_up: true,
            life: 0,
            revision: None,
            remembered: Remembered::default(),
            settings,
        }
    }

    /// A new process, with what was written down.
    pub(crate) fn start(&mut self, now: Tick) {
        self.pool = Pool::new(self.settings.clone(), now);
        self.pool.recall(self.remembered.clone(), now);
        self.refusals = Refusals::default();
        self.checks.clear();
        self.revision = None;
        self.is_up = true;
        self.publish();
    }

    pub(crate) fn is_known(&self) -> bool {
        self.pool.views() == Views::Known
    }

    pub(crate) fn list(&mut self, listing: Listing, now: Tick) {
        self.pool.list(listing, now);
        self.publish();
    }

    /// What a question has brought; says how it is asked next.
    pub(crate) fn hear(&mut self, address: &Address, answer: Answer, now: Tick) -> Option<(Before, Came)> {
        let check = self.checks.get_mut(address)?;
        let before = check.before;
        let came = match &answer {
            Answer::Word(word) => {
                let news = (word.boot.clone(), word.seq);
                // It answers at once when there is news, and after its wait when there is none.
                let is_poll = before == Before::Heard || check.last.as_ref() != Some(&news);
                check.last = Some(news);
                if is_poll { Came::News } else { Came::Look }
            }
            Answer::Silent(Silence::Broken) => Came::Lost,
            Answer::Silent(_) | Answer::Checks(_) | Answer::Connected | Answer::Overloaded => Came::Look,
        };
        check.before = if matches!(answer, Answer::Silent(_)) { Before::Silent } else { Before::Heard };
        self.pool.hear(address, answer, now);
        self.publish();
        Some((before, came))
    }

    pub(crate) fn tick(&mut self, now: Tick) {
        self.pool.tick(now);
        self.publish();
    }

    /// As the product does it: whenever the revision has grown.
    fn publish(&mut self) {
        if self.revision == Some(self.pool.revision()) {
            return;
        }
        self.revision = Some(self.pool.revision());
        self.view = self.pool.view();
        self.refusals.follow(&self.view.session_drains());
        self.remembered = self.pool.remembered();
    }
}

pub(crate) fn listed(addresses: impl IntoIterator<Item = Address>) -> Vec<Listed> {
    let listed = |address| Listed { id: None, address, weight: router_core::placement::Weight::DEFAULT };
    addresses.into_iter().map(listed).collect()
}

#[cfg(not(feature = "faults"))]
fn settings(_: Option<Sabotage>) -> PoolSettings {
    base()
}

#[cfg(feature = "faults")]
fn settings(sabotage: Option<Sabotage>) -> PoolSettings {
    PoolSettings { sabotage, ..base() }
}

fn base() -> PoolSettings {
    let detection = router_core::members::Detection { window: pace().window() };
    PoolSettings { versions: Versions::Each { service: None }, detection, ..PoolSettings::default() }
}
