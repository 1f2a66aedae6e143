//! Puts the parts together, changes them when the configuration changes, and takes them apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use daemon_kit::{Events, bind};
use parking_lot::RwLock;
use router_core::members::Views;
use router_core::pattern::{Route, Routes};
use router_dataplane::{Clock, Listener, NoLocalEndpoints, Plane, PlaneConfig, RouteTable, TlsIdentity};
use supervisor_protocol::BootNonce;
use supervisor_protocol::router::events::Change;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::TaskTracker;

pub use daemon_kit::init_logging;

use crate::admin;
use crate::cli::Cli;
use crate::config::{self, Config, TlsConfig, chain};
use crate::front::{Directory, Front};
use crate::keeper::Keeper;
use crate::memory::Memory;
use crate::metrics::Metrics;

/// What a forced end still waits for.
const FORCED: Duration = Duration::from_secs(1);

/// What the parts of a running router share.
pub(crate) struct Router {
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events<Change>>,
    pub(crate) plane: Plane,
    /// Replaced by a reload; pools that are what they were stay.
    pub(crate) pools: RwLock<BTreeMap<String, Arc<Keeper>>>,
    pub(crate) directory: RwLock<Arc<Directory>>,
    /// On its way out: unready, and still admitting.
    leaving: AtomicBool,
    tasks: TaskTracker,
}

/// Runs until a signal has ended it.
///
/// # Errors
/// It cannot start: the text says what is missing. After the start nothing is an error.
pub fn run(config: Config, cli: &Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(supervise(config, cli));
    runtime.shutdown_timeout(FORCED);
    result
}

async fn supervise(config: Config, cli: &Cli) -> anyhow::Result<()> {
    let mut signals = Signals::catch()?;
    let data = bind(config.listen, "[router] listen")?;
    let admin = config.admin.as_ref().map(|admin| bind(admin.listen, "[router] admin")).transpose()?;
    let clock = Clock::start();
    let mut settings = PlaneConfig::of_router(clock);
    settings.workers = config.threads.unwrap_or(settings.workers);
    settings.trusted = config.trusted_proxies.clone();
    settings.proxy_protocol = config.proxy_protocol.clone();
    settings.limits = config.limits.clone();
    let tls = config.tls.as_ref().map(identity).transpose()?;
    let listeners = std::iter::once(data.into()).chain(tls).collect();
    let plane = Plane::start(settings, listeners, Arc::new(RouteTable::pending()), Arc::new(NoLocalEndpoints))?;
    let router = Arc::new(Router {
        clock,
        metrics: Arc::new(Metrics::new()),
        events: Events::new(BootNonce::new(format!("{:016x}", rand::random::<u64>()))?, clock.now()),
        plane,
        pools: RwLock::default(),
        directory: RwLock::new(Arc::new(Directory::new(Routes::new(Vec::new())?))),
        leaving: AtomicBool::new(false),
        tasks: TaskTracker::new(),
    });
    router.follow(&config)?;
    if let (Some(listener), Some(admin)) = (admin, &config.admin) {
        admin::serve(router.clone(), listener, admin)?;
    }
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    tracing::info!(listen = %config.listen, pools = config.pools.len(), "versiond-router runs");
    let opening = tokio::spawn(router.clone().open());
    let within = router.until_stopped(&mut signals, config, cli).await;
    opening.abort();
    router.finish(&mut signals, within).await;
    for keeper in router.pools.read().values() {
        keeper.cancel.cancel();
    }
    router.tasks.close();
    // What is not written down within this is asked of the members again.
    tokio::time::timeout(FORCED, router.tasks.wait()).await.ok();
    tracing::info!("everything is stopped");
    Ok(())
}

impl Router {
    /// Whether requests find what they should: every member is known, and this does not stop.
    pub(crate) fn is_ready(&self) -> bool {
        let known = self.pools.read().values().all(|keeper| *keeper.views.borrow() == Views::Known);
        known && !self.leaving.load(Ordering::Acquire)
    }

    /// Follows a configuration: pools that are what they were go on, with everything that they know.
    fn follow(&self, config: &Config) -> anyhow::Result<()> {
        let mut pools = self.pools.write();
        for (name, pool) in &config.pools {
            if pools.get(name).is_some_and(|keeper| keeper.config == *pool) {
                continue;
            }
            let memory = Memory::new(config.state_dir.as_deref(), name);
            let (metrics, events, tasks) = (self.metrics.clone(), self.events.clone(), &self.tasks);
            let keeper = Keeper::start(name.clone(), pool.clone(), self.clock, memory, metrics, events, tasks);
            if let Some(before) = pools.insert(name.clone(), Arc::new(keeper)) {
                before.cancel.cancel();
            }
        }
        pools.retain(|name, keeper| {
            let stays = config.pools.contains_key(name);
            if !stays {
                keeper.cancel.cancel();
            }
            stays
        });
        let to = |route: &Route<String>| -> Option<Route<Arc<Front>>> {
            let to = pools.get(&route.to)?.front.clone();
            Some(Route { pattern: route.pattern.clone(), key: route.key.clone(), to })
        };
        let routes = Routes::new(config.routes.iter().filter_map(to).collect())?;
        *self.directory.write() = Arc::new(Directory::new(routes));
        Ok(())
    }

    /// Requests wait until every pool knows its members, or has had the time to.
    async fn open(self: Arc<Self>) {
        loop {
            let views: Vec<_> = self.pools.read().values().map(|keeper| keeper.views.clone()).collect();
            for mut known in views {
                // A pool that is gone is not waited for.
                known.wait_for(|views| *views == Views::Known).await.ok();
            }
            if self.pools.read().values().all(|keeper| *keeper.views.borrow() == Views::Known) {
                break;
            }
        }
        self.route();
        let ready = [sd_notify::NotifyState::Ready];
        sd_notify::notify(&ready).ok();
        tracing::info!("every pool is known; requests are placed");
    }

    fn route(&self) {
        let directory = self.directory.read().clone();
        self.plane.replace_table(Arc::new(RouteTable::of_pools(directory)));
    }

    /// Handles signals until the end has come, and says how long what is left may take.
    async fn until_stopped(self: &Arc<Self>, signals: &mut Signals, mut config: Config, cli: &Cli) -> Duration {
        loop {
            tokio::select! {
                _ = signals.term.recv() => break,
                _ = signals.int.recv() => break,
                _ = signals.hup.recv() => config = self.reload(config, cli).await,
            }
        }
        self.leaving.store(true, Ordering::Release);
        self.plane.announce(true);
        sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        tracing::info!(announce_s = config.announce.as_secs(), "on the way out: unready, and still admitting");
        tokio::select! {
            () = tokio::time::sleep(config.announce) => config.drain,
            _ = signals.int.recv() => FORCED,
        }
    }

    /// What is in flight finishes; a SIGINT says that it may not.
    async fn finish(&self, signals: &mut Signals, within: Duration) {
        let mut finishing = std::pin::pin!(self.plane.shutdown(within));
        loop {
            tokio::select! {
                () = &mut finishing => return,
                _ = signals.int.recv() => self.plane.abort(),
            }
        }
    }

    /// Nothing changes by a configuration that is none. Connections stay.
    async fn reload(self: &Arc<Self>, before: Config, cli: &Cli) -> Config {
        let now = sd_notify::NotifyState::monotonic_usec_now().ok();
        let begun: Vec<_> = std::iter::once(sd_notify::NotifyState::Reloading).chain(now).collect();
        sd_notify::notify(&begun).ok();
        let config = match config::of(cli) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(error = chain(&error), "the configuration stays as it was");
                sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
                return before;
            }
        };
        for (key, is_same) in [
            ("listen", before.listen == config.listen),
            ("admin", before.admin == config.admin),
            ("state_dir", before.state_dir == config.state_dir),
            ("threads", before.threads == config.threads),
            ("trusted_proxies", before.trusted_proxies == config.trusted_proxies),
            ("proxy_protocol", before.proxy_protocol == config.proxy_protocol),
            ("tls", before.tls == config.tls),
            ("limits", before.limits == config.limits),
        ] {
            if !is_same {
                tracing::warn!("{key} changes with a restart");
            }
        }
        match self.follow(&config) {
            Ok(()) => {
                self.settled().await;
                self.route();
                tracing::info!(pools = config.pools.len(), "the configuration is read again");
            }
            Err(error) => tracing::error!(error = chain(error.as_ref()), "the configuration stays as it was"),
        }
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
        config
    }

    /// A pool that is new serves once it is known; until then the routes are those of before.
    async fn settled(&self) {
        let views: Vec<_> = self.pools.read().values().map(|keeper| keeper.views.clone()).collect();
        for mut known in views {
            known.wait_for(|views| *views == Views::Known).await.ok();
        }
    }
}

/// The listener behind which TLS is spoken. Its certificate is read again whenever it changes.
fn identity(tls: &TlsConfig) -> anyhow::Result<Listener> {
    let socket = bind(tls.listen, "[router.tls] listen")?;
    let identity = TlsIdentity::read(tls.certificate.as_std_path(), tls.key.as_std_path()).context("[router.tls]")?;
    tokio::spawn(identity.clone().follow());
    Ok(Listener { socket, tls: Some(identity) })
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}
