//! One task for each pool: it hears everything that concerns its members, and publishes who may be chosen.
//!
//! Must not live here: what an event means (that is `router-core`), how answers and listings come about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon_kit::Events;
use router_core::drain::NotDrained;
use router_core::members::{Address, Answer, Listing, MemberId, Views};
use router_core::pool::Pool;
use router_core::view::View;
use router_dataplane::{Clock, Dial, HttpVersion, Target, TargetLabel, Upstream, UpstreamTls, Voucher};
use supervisor_protocol::router::events::Change;
use supervisor_protocol::{HostId, Tick};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::{self, changes};
use crate::check::{self, Checks};
use crate::config::PoolConfig;
use crate::discover;
use crate::front::{Front, Roster};
use crate::memory::Memory;
use crate::metrics::Metrics;

/// What a pool's task is told or asked.
pub(crate) enum Event {
    Heard(Address, Answer),
    Listed(Listing),
    Drain(MemberId, oneshot::Sender<Result<(), NotDrained>>),
    Undrain(MemberId, oneshot::Sender<bool>),
    Look(oneshot::Sender<Pool>),
}

/// A pool, and how its task is spoken to.
pub(crate) struct Keeper {
    pub(crate) front: Arc<Front>,
    pub(crate) config: PoolConfig,
    pub(crate) tell: mpsc::Sender<Event>,
    /// Whether enough is known of its members.
    pub(crate) views: watch::Receiver<Views>,
    pub(crate) cancel: CancellationToken,
}

/// What the task works with.
struct Task {
    pool: Pool,
    shown: View,
    /// Of the pool that is shown.
    revision: Option<u64>,
    targets: BTreeMap<MemberId, Reached>,
    front: Arc<Front>,
    protocol: HttpVersion,
    tls: Option<UpstreamTls>,
    clock: Clock,
    memory: Memory,
    metrics: Arc<Metrics>,
    events: Arc<Events<Change>>,
    checks: Checks,
    views: watch::Sender<Views>,
}

/// A member that requests may be sent to.
struct Reached {
    at: Place,
    target: Arc<Target>,
}

/// What makes a target another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: Address,
    voucher: Voucher,
}

impl Keeper {
    /// Starts the task of a pool, its listings and its checks. They end with `cancel`.
    pub(crate) fn start(
        name: String,
        config: PoolConfig,
        clock: Clock,
        memory: Memory,
        metrics: Arc<Metrics>,
        events: Arc<Events<Change>>,
        tasks: &TaskTracker,
    ) -> Keeper {
        let (tell, told) = mpsc::channel(256);
        let mut pool = Pool::new(config.settings.clone(), clock.now());
        // What is known from the first is told like everything that comes.
        let nothing = pool.view();
        if let Some(listing) = discover::written(&config.members) {
            pool.list(listing, clock.now());
        }
        if let Some(remembered) = memory.recall() {
            pool.recall(remembered, clock.now());
        }
        let front = Front::new(name, Roster { view: pool.view(), targets: BTreeMap::new() }, config.ha);
        let (views, seen) = watch::channel(pool.views());
        let cancel = CancellationToken::new();
        let checks = Checks::new(check::Settings::of(&config), tell.clone(), cancel.clone());
        let task = Task {
            pool,
            shown: nothing,
            revision: None,
            targets: BTreeMap::new(),
            front: front.clone(),
            protocol: config.protocol,
            tls: config.tls.clone(),
            clock,
            memory,
            metrics,
            events,
            checks,
            views,
        };
        // It ends by itself, once the pool's task has.
        tasks.spawn(task.memory.writer());
        let stop = cancel.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(task.run(told)).await;
        });
        let (source, stop, teller) = (config.members.clone(), cancel.clone(), tell.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(discover::follow(source, teller)).await;
        });
        Keeper { front, config, tell, views: seen, cancel }
    }

    /// The pool as it stands.
    pub(crate) async fn look(&self) -> Option<Pool> {
        let (ask, answer) = oneshot::channel();
        self.tell.send(Event::Look(ask)).await.ok()?;
        answer.await.ok()
    }
}

impl Task {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        self.follow();
        loop {
            let wake = self.pool.wake().map(|(at, _)| at.since(self.clock.now()));
            let sleep = async {
                match wake {
                    // A tick is a millisecond, and what is due at one is due at its end.
                    Some(pause) => tokio::time::sleep(pause + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = sleep => None,
            };
            let now = self.clock.now();
            match event {
                Some(event) => self.take(event, now),
                None => self.pool.tick(now),
            }
            self.follow();
        }
    }

    fn take(&mut self, event: Event, now: Tick) {
        match event {
            Event::Heard(address, answer) => {
                self.metrics.checked(self.front.name(), check::code(&answer));
                self.pool.hear(&address, answer, now);
            }
            Event::Listed(listing) => {
                let relisted = self.pool.list(listing, now);
                self.metrics.listed(self.front.name(), relisted.moved.code());
            }
            // Whoever asks may be gone.
            Event::Drain(id, answer) => drop(answer.send(self.pool.drain(&id, now))),
            Event::Undrain(id, answer) => drop(answer.send(self.pool.undrain(&id, now))),
            Event::Look(answer) => drop(answer.send(self.pool.clone())),
        }
    }

    /// Brings everything in step with the pool: what is checked, what requests see, what is written down.
    fn follow(&mut self) {
        if self.revision == Some(self.pool.revision()) {
            return;
        }
        self.revision = Some(self.pool.revision());
        self.checks.follow(self.pool.members().iter().map(|(address, _)| address));
        let view = self.pool.view();
        self.tell_changes(&view);
        self.retarget(&view);
        let targets = self.targets.iter().map(|(id, reached)| (id.clone(), reached.target.clone())).collect();
        self.front.publish(Roster { view: view.clone(), targets });
        self.shown = view;
        let views = self.pool.views();
        if self.views.send_if_modified(|known| std::mem::replace(known, views) != views) {
            match views {
                Views::Known => self.tell(Change::ViewsKnown { pool: self.front.name().to_owned() }),
                Views::Gathering { .. } => {}
            }
        }
        self.memory.keep(&self.pool.remembered());
    }

    /// A target for each member that is in. One that has left admits nothing more; what it has admitted goes on.
    fn retarget(&mut self, view: &View) {
        let members: BTreeMap<MemberId, Place> = self
            .pool
            .members()
            .iter()
            .filter_map(|(address, member)| {
                let id = member.id()?.clone();
                view.seat(&id)?;
                let voucher = match HostId::new(id.as_str()) {
                    Ok(host) if member.has_a_word() => Voucher::Host(host),
                    Ok(_) | Err(_) => Voucher::Nobody,
                };
                Some((id, Place { address: address.clone(), voucher }))
            })
            .collect();
        self.targets.retain(|id, reached| {
            let stays = members.get(id) == Some(&reached.at);
            if !stays {
                reached.target.retire();
            }
            stays
        });
        for (id, at) in members {
            if self.targets.contains_key(&id) {
                continue;
            }
            let label = TargetLabel::Host { pool: self.front.name().to_owned(), host: id.to_string() };
            let to = match at.address.as_str().parse() {
                Ok(address) => Upstream::Tcp(address),
                Err(_) => Upstream::Named(at.address.to_string()),
            };
            let dial = Dial { to, version: self.protocol, tls: self.tls.clone() };
            let target = Target::new(label, at.voucher.clone(), dial, self.clock);
            self.targets.insert(id, Reached { at, target });
        }
    }

    fn tell_changes(&self, view: &View) {
        let pool = self.front.name();
        changes(pool, &self.shown, view).into_iter().for_each(|change| self.tell(change));
        self.metrics.alarmed(pool, view);
    }

    fn tell(&self, change: Change) {
        changes::log(&change);
        self.events.push(change, self.clock.now());
    }
}
