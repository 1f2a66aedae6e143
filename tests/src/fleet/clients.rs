//! Clients of several hosts: each keeps to one session, and knows both routers.
//!
//! Two clients share each session, and begin with different routers. Short requests come at their pace, whatever became
//! of those before, so that a host that does not answer is seen to be asked on.
//! A client takes its routers in turn, and the other one where the first takes no connection or has closed the one
//! that was kept. It never sends anything twice: what breaks is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use supervisor_protocol::error::chain;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::ledger::{Ledger, Ticket};
use crate::checks::{EventReader, Fault, StreamCheck};
use crate::clients::connection::{Connection, request, whole};
use crate::clients::{AFTER_A_FAILURE, ANSWER_WITHIN};
use crate::options::Lengths;
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::world::World;

/// The clients of one session.
const SHARED_BY: usize = 2;
/// The slot of every host.
pub const SLOT: Slot = Slot(0);
/// Between two short requests of a client.
const SHORT_EVERY: Duration = Duration::from_millis(100);
/// Between two events of a stream.
const EVENT_EVERY_MS: u64 = 100;
/// A stream that says nothing for this long beyond its rhythm has stalled.
const PATIENCE: Duration = Duration::from_secs(15);

/// What all clients of a fleet share.
#[derive(Debug)]
pub struct Ground {
    pub world: Arc<World>,
    pub routers: Vec<SocketAddr>,
    pub ledger: Mutex<Ledger>,
    /// The streams that clients have open, by host.
    pub open: Mutex<std::collections::BTreeMap<String, u64>>,
}

/// How many clients of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// With a short POST every 100 ms, on connections that stay open.
    pub short: usize,
    /// With one stream after the other.
    pub streams: usize,
    pub lengths: Lengths,
    pub seed: u64,
}

impl Crowd {
    /// How many sessions they have.
    #[must_use]
    pub const fn sessions(&self) -> usize {
        (self.short + self.streams).div_ceil(SHARED_BY)
    }
}

/// The path of a session.
#[must_use]
pub fn path(session: usize) -> String {
    format!("/devshard/{SLOT}/sessions/{session}/stream")
}

/// Starts all clients. They are done when the tracker is.
#[must_use]
pub fn start(ground: &Arc<Ground>, crowd: &Crowd) -> TaskTracker {
    let tracker = TaskTracker::new();
    for number in 0..crowd.short + crowd.streams {
        let client = Client {
            ground: Arc::clone(ground),
            session: number / SHARED_BY,
            turn: AtomicUsize::new(number),
            kept: ground.routers.iter().map(|_| Mutex::default()).collect(),
        };
        let (client, rng) = (Arc::new(client), StdRng::seed_from_u64(crowd.seed.wrapping_add(number as u64)));
        if number < crowd.short {
            tracker.spawn(ask(client, rng, tracker.clone()));
        } else {
            tracker.spawn(listen(client, rng, crowd.lengths));
        }
    }
    tracker.close();
    tracker
}

/// A short POST every so often, whatever became of those before; each of them is executed.
async fn ask(client: Arc<Client>, mut rng: StdRng, tracker: TaskTracker) {
    let world = &client.ground.world;
    world.pause(SHORT_EVERY.mul_f64(rng.random())).await;
    while !world.is_over() {
        let asking = Arc::clone(&client);
        let order = Order { kind: Kind::Short, ms: 20, every_ms: 10, executes: true };
        tracker.spawn(async move { asking.exchange(&order).await });
        world.pause(SHORT_EVERY).await;
    }
}

/// One stream after the other, each on a connection of its own.
async fn listen(client: Arc<Client>, mut rng: StdRng, lengths: Lengths) {
    let world = &client.ground.world;
    world.pause(Duration::from_millis(lengths.min_ms).mul_f64(rng.random())).await;
    while !world.is_over() {
        let ms = rng.random_range(lengths.min_ms..=lengths.max_ms);
        let order = Order { kind: Kind::Stream, ms, every_ms: EVENT_EVERY_MS, executes: rng.random() };
        if client.exchange(&order).await.is_err() {
            world.pause(AFTER_A_FAILURE).await;
        }
    }
}

struct Client {
    ground: Arc<Ground>,
    session: usize,
    turn: AtomicUsize,
    /// For each router the connection that short requests take again.
    kept: Vec<Mutex<Option<Connection>>>,
}

/// What is asked for.
struct Order {
    kind: Kind,
    ms: u64,
    every_ms: u64,
    executes: bool,
}

impl Client {
    async fn exchange(&self, order: &Order) -> Result<(), Fault> {
        let ground = &self.ground;
        let ticket = ground.ledger.lock().begin(order.kind, self.session, order.executes, ground.world.now());
        let mut stay = Stay { ground, host: None };
        let outcome = tokio::select! {
            outcome = self.follow(order, &ticket, &mut stay) => outcome,
            () = ground.world.stop.cancelled() => return Ok(()),
        };
        ground.ledger.lock().end(&ticket, stay.host.as_deref(), &outcome, ground.world.now());
        outcome
    }

    async fn follow(&self, order: &Order, ticket: &Ticket, stay: &mut Stay<'_>) -> Result<(), Fault> {
        let asked = (order.ms / order.every_ms).max(1);
        let id = ticket.execution.map_or_else(String::new, |id| format!("&id={id}"));
        let path = format!("{}?ms={}&events={asked}{id}", path(self.session), order.ms);
        let (method, body) = match ticket.execution {
            Some(_) => (Method::POST, Bytes::from_static(b"{}")),
            None => (Method::GET, Bytes::new()),
        };
        let (router, mut connection) = self.connection().await?;
        let response = connection.send(request(method, &path, whole(body))?, ANSWER_WITHIN).await?;
        let mut body = response.into_body();
        let (mut reader, mut check) = (EventReader::default(), StreamCheck::new(0, asked));
        loop {
            let frame = match timeout(PATIENCE, body.frame()).await {
                Err(_) => return Err(check.broken_off(&format!("nothing for {PATIENCE:?}"))),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(check.broken_off(&chain(&error))),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            for event in reader.push(&data) {
                check.event(&event)?;
                if let (None, Some(origin)) = (&stay.host, check.origin()) {
                    stay.at(origin.host.as_deref());
                    let now = self.ground.world.now();
                    self.ground.ledger.lock().answered(ticket, origin, now)?;
                }
            }
        }
        check.end()?;
        if order.kind == Kind::Short {
            *self.kept[router].lock() = Some(connection);
        }
        Ok(())
    }

    /// The next router's connection that was kept, else a new one, else the same of the other router.
    async fn connection(&self) -> Result<(usize, Connection), Fault> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut refused = Fault::Connect("there is no router".to_owned());
        for offset in 0..self.kept.len() {
            let router = (turn + offset) % self.kept.len();
            let kept = self.kept[router].lock().take();
            if let Some(kept) = kept.filter(Connection::is_open) {
                return Ok((router, kept));
            }
            match Connection::open(self.ground.routers[router], ANSWER_WITHIN).await {
                Ok(connection) => return Ok((router, connection)),
                Err(fault) => refused = fault,
            }
        }
        Err(refused)
    }
}

/// Keeps the count of open streams right, however each ends.
struct Stay<'g> {
    ground: &'g Ground,
    host: Option<String>,
}

impl Stay<'_> {
    fn at(&mut self, host: Option<&str>) {
        let host = host.unwrap_or_default().to_owned();
        *self.ground.open.lock().entry(host.clone()).or_default() += 1;
        self.host = Some(host);
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if let Some(host) = &self.host
            && let Some(open) = self.ground.open.lock().get_mut(host)
        {
            *open -= 1;
        }
    }
}
