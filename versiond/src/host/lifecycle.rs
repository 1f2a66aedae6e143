//! The task that moves the host: it hears signals, watches convergence, and gives the slots their orders.

use std::sync::Arc;
use std::time::Duration;

use router_dataplane::{Clock, Plane};
use supervisor_protocol::Refusal;
use supervisor_protocol::host::HostState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::board::Board;
use crate::process::Spawner;
use crate::reload::Reload;
use crate::supervisor::Order;

/// How often the leases are counted while the host drains.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// The signals that move the host. They are caught from the moment this is made.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP from now on.
    pub(crate) fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// What the task works with.
pub(crate) struct Lifecycle {
    pub(crate) board: Arc<Board>,
    pub(crate) plane: Arc<Plane>,
    pub(crate) spawner: Spawner,
    pub(crate) clock: Clock,
    pub(crate) orders: watch::Sender<Order>,
    pub(crate) reload: Reload,
}

impl Lifecycle {
    /// Runs until every slot is empty after a stop. SIGTERM stops, once; SIGINT stops, and forces when
    /// the host is already on its way out. Returns whether it was forced in the end.
    pub(crate) async fn run(self, mut signals: Signals, slots_gone: impl Future<Output = ()>) -> bool {
        tokio::pin!(slots_gone);
        let mut changes = self.board.changes();
        self.entered(HostState::Starting);
        loop {
            let wake = self.board.host(|host| (host.wake(), false));
            let counting = self.board.host_state() == HostState::Draining;
            let pause = wake.map(|tick| tick.since(self.clock.now()));
            let pause = if counting { Some(pause.unwrap_or(COUNT_EVERY).min(COUNT_EVERY)) } else { pause };
            let sleep = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut slots_gone => break,
                _ = signals.term.recv() => self.stop(),
                _ = signals.int.recv() => {
                    if self.board.host(|host| (host.leaving_since().is_some(), false)) {
                        self.step(|host, now| host.force(now));
                    } else {
                        self.stop();
                    }
                }
                // Its default would end everything for the close of a terminal.
                _ = signals.hup.recv() => self.read_again(),
                () = sleep => {
                    let inflight = self.board.inflight();
                    self.step(|host, now| host.tick(inflight, now));
                }
                changed = changes.changed() => {
                    if changed.is_ok() && self.board.all_decided() {
                        self.step(|host, _| host.converged());
                    }
                }
            }
        }
        let forced = self.board.host_state() == HostState::Forcing;
        self.step(|host, _| host.all_gone());
        forced
    }

    /// The task says itself what came of it; whoever manages this daemon is told of the beginning and the end.
    fn read_again(&self) {
        let reload = self.reload.clone();
        tokio::spawn(async move {
            let now = sd_notify::NotifyState::monotonic_usec_now().ok();
            let begun: Vec<_> = std::iter::once(sd_notify::NotifyState::Reloading).chain(now).collect();
            sd_notify::notify(&begun).ok();
            reload.ask().await.ok();
            sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
        });
    }

    fn stop(&self) {
        if !self.step(|host, now| host.stop(now)) {
            tracing::info!("already on the way out; the signal changes nothing");
        }
    }

    /// Moves the host under its lock, and tells the data plane there: nobody is shown a state that does not hold
    /// for requests yet. Then acts on the state that was entered.
    fn step(&self, edge: impl FnOnce(&mut versiond_core::host::Host, supervisor_protocol::Tick) -> bool) -> bool {
        let now = self.clock.now();
        let (moved, state) = self.board.host(|host| {
            let moved = edge(host, now);
            let state = host.state();
            if moved {
                self.tell_requests(state);
            }
            ((moved, state), moved)
        });
        if moved {
            self.entered(state);
        }
        moved
    }

    /// What a state means for whoever asks from now on.
    fn tell_requests(&self, state: HostState) {
        match state {
            HostState::Starting
            | HostState::Serving
            | HostState::Cordoned
            | HostState::Stopping
            | HostState::Stopped => {}
            HostState::Announcing => self.plane.announce(true),
            HostState::Draining => {
                self.plane.announce(true);
                self.plane.close_admission(Refusal::HostStopping);
            }
            HostState::Forcing => self.plane.close_admission(Refusal::HostStopping),
        }
    }

    fn entered(&self, state: HostState) {
        tracing::info!(state = state.as_str(), "host");
        sd_notify::notify(&[sd_notify::NotifyState::Status(&format!("{state}"))]).ok();
        match state {
            HostState::Starting | HostState::Serving | HostState::Cordoned | HostState::Stopped => {}
            HostState::Announcing => {
                sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
            }
            HostState::Draining => {
                self.spawner.freeze();
                let deadline = self.board.host(|host| (host.drained_by(), false)).unwrap_or_else(|| self.clock.now());
                self.orders.send_replace(Order::Stop { deadline });
            }
            HostState::Stopping => {}
            HostState::Forcing => {
                self.spawner.freeze();
                self.orders.send_replace(Order::Force);
            }
        }
    }
}
