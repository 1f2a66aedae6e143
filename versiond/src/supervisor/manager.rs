//! The manager: turns the catalog's view and the host's state into one intent per slot, and keeps the
//! routing table in step with the set of slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use router_core::route::RoutePattern;
use router_dataplane::{Absence, ClassRule, Plane, RouteTable, SlotRoute};
use supervisor_protocol::admin::{Verb, VerbRefused};
use supervisor_protocol::{Reason, ServiceName, Sha256, SlotId, Tick, VersionName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use versiond_core::catalog::Desired;
use versiond_core::memory::Memory;
use versiond_core::slot::Want;

use crate::catalog::CatalogView;
use crate::config::Config;
use crate::ledger::LedgerState;
use crate::supervisor::actor::{Actor, SlotHandle};
use crate::supervisor::child::chain;
use crate::supervisor::command::Command;
use crate::supervisor::effects::Effects;
use crate::supervisor::{ServiceSpec, Settings, Shared, SpecBook};

/// What the host wants of all slots together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Follow the catalog.
    Follow,
    /// Empty every slot by this tick.
    Stop { deadline: Tick },
    /// Kill what is left.
    Force,
}

/// What the configuration says of where requests go, whatever slots there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    pub(crate) patterns: Vec<(RoutePattern, ServiceName)>,
    pub(crate) classes: Vec<ClassRule>,
}

impl Routes {
    pub(crate) fn new(config: &Config) -> Routes {
        let mut routes = Routes::default();
        for (name, service) in &config.services {
            routes.patterns.extend(service.routes().map(|pattern| (pattern.clone(), name.clone())));
            routes.classes.extend(service.classes.iter().map(|rule| ClassRule {
                service: name.clone(),
                path: rule.path.clone(),
                class: rule.class,
            }));
        }
        routes
    }
}

/// Runs until every slot is gone after `Order::Stop` or `Order::Force`.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    services: BTreeMap<ServiceName, Arc<SpecBook>>,
    /// Of services that were configured before: their slots may still drain, and a name may come back.
    former: BTreeMap<ServiceName, Arc<SpecBook>>,
    routes: Routes,
    plane: Arc<Plane>,
    numbers: Arc<AtomicU64>,
    /// What slots that have not been started since a restart remember from before it.
    remembered: BTreeMap<SlotId, Memory>,
    /// The names of the catalog in force.
    named: Option<BTreeSet<SlotId>>,
    denied: Denied,
    slots: BTreeMap<SlotId, Running>,
    /// The plane has the whole table: until then it holds every request to what it does not know.
    is_routed: bool,
}

/// The hashes that may not run.
#[derive(Debug, Default)]
struct Denied {
    by_catalog: BTreeSet<Sha256>,
    by_operator: BTreeSet<Sha256>,
}

impl Denied {
    fn all(&self) -> BTreeSet<Sha256> {
        self.by_catalog.union(&self.by_operator).copied().collect()
    }
}

struct Running {
    handle: SlotHandle,
    route: Arc<SlotRoute>,
    task: JoinHandle<()>,
    want: Option<Want>,
}

impl Manager {
    /// A manager without slots, which goes on from the ledger.
    pub(crate) fn new(shared: Arc<Shared>, settings: &Settings, plane: Arc<Plane>, ledger: &LedgerState) -> Manager {
        let numbers = Arc::new(AtomicU64::new(ledger.next_generation));
        // What a command was before is not known any more: only what it is can come back.
        let remembered = ledger.slots.iter().map(|known| {
            let mut memory = known.memory.clone();
            if let Some(spec) = settings.services.get(&known.slot.service).filter(|spec| spec.command.is_some()) {
                memory.keep(|sha256| spec.identity() == Some(*sha256));
            }
            (known.slot.clone(), memory)
        });
        let remembered = remembered.collect();
        let denied = Denied { by_catalog: BTreeSet::new(), by_operator: ledger.denied.clone() };
        let book =
            |(name, spec): (&ServiceName, &Arc<ServiceSpec>)| (name.clone(), Arc::new(SpecBook::new(spec.clone())));
        Manager {
            shared,
            services: settings.services.iter().map(book).collect(),
            former: BTreeMap::new(),
            routes: settings.routes.clone(),
            plane,
            numbers,
            remembered,
            named: None,
            denied,
            slots: BTreeMap::new(),
            is_routed: false,
        }
    }

    /// Follows the configuration, the catalog and the host's orders.
    pub(crate) async fn run(
        mut self,
        mut settings: watch::Receiver<Arc<Settings>>,
        mut catalog: watch::Receiver<CatalogView>,
        mut orders: watch::Receiver<Order>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let (gone, mut ended) = mpsc::channel::<SlotId>(64);
        // What was read last stays in force when nobody reads any more.
        let (mut followed, mut reloaded) = (true, true);
        loop {
            let order = *orders.borrow_and_update();
            let view = catalog.borrow_and_update().clone();
            self.shared.board.set_catalog(&view);
            self.apply(&view, order, &gone).await;
            if order != Order::Follow && self.slots.is_empty() {
                return;
            }
            tokio::select! {
                changed = orders.changed() => if changed.is_err() { return },
                changed = catalog.changed(), if followed => followed = changed.is_ok(),
                changed = settings.changed(), if reloaded => {
                    reloaded = changed.is_ok();
                    let settings = settings.borrow_and_update().clone();
                    self.reload(&settings).await;
                }
                Some(id) = ended.recv() => self.ended(&id),
                Some(command) = commands.recv() => self.hand_on(command).await,
            }
        }
    }

    /// Takes another configuration. What runs goes on as it was started, until its successor serves.
    async fn reload(&mut self, settings: &Settings) {
        self.routes = settings.routes.clone();
        let gone: Vec<ServiceName> =
            self.services.keys().filter(|name| !settings.services.contains_key(name)).cloned().collect();
        for name in gone {
            self.former.extend(self.services.remove_entry(&name));
        }
        for (name, spec) in &settings.services {
            let Some(book) = self.services.get(name) else {
                let book = self.former.remove(name);
                let book = book.inspect(|book| book.replace(spec.clone()));
                self.services.insert(name.clone(), book.unwrap_or_else(|| Arc::new(SpecBook::new(spec.clone()))));
                continue;
            };
            let before = book.now();
            book.replace(spec.clone());
            // Another program is a swap; the same one, told other things, takes another life of it.
            if before.is_told_otherwise(spec) && before.identity() == spec.identity() {
                self.restart(name).await;
            }
        }
        self.is_routed = false;
    }

    async fn restart(&self, service: &ServiceName) {
        for (id, slot) in self.slots.iter().filter(|(id, _)| id.service == *service) {
            let (answer, answered) = oneshot::channel();
            slot.handle.command(Verb::Restart, answer).await;
            let id = id.clone();
            tokio::spawn(async move {
                if let Ok(Err(refused)) = answered.await {
                    tracing::info!(slot = %id, %refused, "what has changed counts from its next start");
                }
            });
        }
    }

    /// Gives an operator's order to its slot.
    async fn hand_on(&mut self, command: Command) {
        match command {
            Command::Verb { slot, verb, answer } => match self.slots.get(&slot) {
                Some(running) => running.handle.command(verb, answer).await,
                // Who gave it may be gone.
                None => drop(answer.send(Err(VerbRefused::UnknownSlot))),
            },
            Command::Deny { sha256, denied, answer } => {
                let taken = match self.shared.recorder.deny(sha256, denied).await {
                    Ok(by_operator) => {
                        self.denied.by_operator = by_operator;
                        self.tell_denied().await;
                        Ok(())
                    }
                    Err(error) => Err(VerbRefused::LedgerUnwritable { detail: chain(&error) }),
                };
                answer.send(taken).ok();
            }
        }
    }

    async fn tell_denied(&self) {
        for slot in self.slots.values() {
            slot.handle.deny(self.denied.all()).await;
        }
    }

    async fn apply(&mut self, view: &CatalogView, order: Order, gone: &mpsc::Sender<SlotId>) {
        if order == Order::Follow && view.is_known {
            self.follow_removals(&view.desired).await;
        }
        let wants = self.wants(view, order);
        if order == Order::Follow {
            // Before any slot is told, so that none takes itself for the only one.
            self.shared.schemas.name(&self.on_shared_databases(&wants));
        }
        let mut table_changed = false;
        for (id, want) in wants {
            let known = self.slots.contains_key(&id);
            if !known && !matches!(want, Want::Serve(_) | Want::Keep(_)) {
                continue;
            }
            if !known {
                let Some(running) = self.start(&id, gone.clone()) else { continue };
                let denied = self.denied.all();
                if !denied.is_empty() {
                    running.handle.deny(denied).await;
                }
                self.slots.insert(id.clone(), running);
                table_changed = true;
            }
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.want.as_ref() != Some(&want) {
                slot.handle.want(want.clone()).await;
                slot.want = Some(want);
            }
        }
        // A catalog that names nothing is known too: then nothing is there to wait for.
        if table_changed || (view.is_known && !self.is_routed) {
            self.is_routed = view.is_known;
            self.replace_table();
        }
        if order == Order::Follow && view.is_known {
            let wanted = |slot: &Running| matches!(slot.want, Some(Want::Serve(_) | Want::Keep(_)));
            let expected = self.slots.iter().filter(|(_, slot)| wanted(slot)).map(|(id, _)| id.clone()).collect();
            self.shared.board.expect(expected);
        }
    }

    /// What served under a name that is gone must not come back with the name; what is denied may not run.
    async fn follow_removals(&mut self, desired: &Desired) {
        if self.denied.by_catalog != desired.deny {
            self.denied.by_catalog.clone_from(&desired.deny);
            self.tell_denied().await;
        }
        let named: BTreeSet<SlotId> = desired.slots.keys().cloned().chain(self.commands().into_keys()).collect();
        if self.named.as_ref() == Some(&named) {
            return;
        }
        self.remembered.retain(|slot, _| named.contains(slot));
        self.named = Some(named.clone());
        let shared = self.shared.clone();
        // A disk that hangs must not hold up every slot.
        self.shared.tail.spawn(async move {
            if let Err(error) = shared.recorder.keep_slots(|slot| named.contains(slot)).await {
                tracing::warn!(error = chain(&error), "the ledger still names what served under removed names");
            }
        });
    }

    /// One intent for every slot that is known or named.
    fn wants(&self, view: &CatalogView, order: Order) -> BTreeMap<SlotId, Want> {
        let mut wants: BTreeMap<SlotId, Want> = self.slots.keys().map(|id| (id.clone(), Want::Nothing)).collect();
        match order {
            Order::Stop { deadline } => wants.values_mut().for_each(|want| *want = Want::Stop { deadline }),
            Order::Force => wants.values_mut().for_each(|want| *want = Want::Force),
            Order::Follow => {
                wants.extend(self.commands());
                let follows =
                    |id: &SlotId| self.services.get(&id.service).is_some_and(|book| book.now().command.is_none());
                for (id, intent) in view.desired.slots.iter().filter(|(id, _)| follows(id)) {
                    let want = match (&intent.artifact, &intent.blocked) {
                        (Some(artifact), _) => Want::Serve(artifact.clone()),
                        (None, Some(reason)) => Want::Keep(reason.clone()),
                        (None, None) => Want::Keep(Reason::Unservable { detail: "no artifact".to_owned() }),
                    };
                    wants.insert(id.clone(), want);
                }
            }
        }
        wants
    }

    /// What should run where several hosts share one database.
    fn on_shared_databases(&self, wants: &BTreeMap<SlotId, Want>) -> BTreeMap<SlotId, Sha256> {
        let is_shared = |id: &SlotId| self.services.get(&id.service).is_some_and(|book| book.now().is_ha(&id.name));
        let artifacts = wants.iter().filter_map(|(id, want)| match want {
            Want::Serve(artifact) => Some((id, artifact.sha256)),
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => None,
        });
        artifacts.filter(|(id, _)| is_shared(id)).map(|(id, sha256)| (id.clone(), sha256)).collect()
    }

    /// What the configuration itself wants: each command in its one slot.
    fn commands(&self) -> BTreeMap<SlotId, Want> {
        let specs = self.services.iter().map(|(name, book)| (name, book.now()));
        let wanted = specs.filter_map(|(service, spec)| {
            let command = spec.command.as_ref()?;
            let want = match &command.program {
                Ok(program) => Want::Serve(program.artifact()),
                Err(detail) => Want::Keep(Reason::Unservable { detail: detail.clone() }),
            };
            Some((SlotId { service: service.clone(), name: command.slot.clone() }, want))
        });
        wanted.collect()
    }

    fn start(&mut self, id: &SlotId, gone: mpsc::Sender<SlotId>) -> Option<Running> {
        let service = self.services.get(&id.service)?.clone();
        let route = SlotRoute::new(Absence::Hold { forecast: None });
        let effects = Effects { id: id.clone(), shared: self.shared.clone(), service };
        let (handle, actor) =
            Actor::spawn(effects, route.clone(), self.numbers.clone(), self.remembered.remove(id).unwrap_or_default());
        let id = id.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = actor.await {
                tracing::error!(slot = %id, %error, "the slot's actor failed");
            }
            gone.send(id).await.ok();
        });
        Some(Running { handle, route, task, want: None })
    }

    /// A slot's actor has ended: nothing was wanted of it and nothing is left.
    fn ended(&mut self, id: &SlotId) {
        if self.slots.remove(id).is_some_and(|slot| slot.task.is_finished() || slot.want.is_some()) {
            self.replace_table();
        }
    }

    fn replace_table(&mut self) {
        let slots = self
            .slots
            .iter()
            .map(|(id, slot)| ((id.service.clone(), id.name.clone()), slot.route.clone()))
            .collect::<BTreeMap<(ServiceName, VersionName), Arc<SlotRoute>>>();
        let table = RouteTable::new(self.routes.patterns.clone(), slots).with_classes(self.routes.classes.clone());
        self.plane.replace_table(Arc::new(if self.is_routed { table } else { table.with_more_to_come() }));
    }
}
