//! Short requests at a steady rate on a connection that stays open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::MissedTickBehavior;

use super::connection::{Connection, request, whole};
use super::{AFTER_A_FAILURE, ANSWER_WITHIN};
use crate::checks::{Fault, Origin, decode};
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::world::World;

/// Asks `GET /{slot}/hello` every so often until the world winds down. Once the slot is gone it goes on
/// asking, less often: the name must stay gone.
pub async fn run(world: Arc<World>, slot: Slot, every: Duration, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    world.pause(every.mul_f64(rng.random::<f64>())).await;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    while !world.is_over() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = world.wind_down.cancelled() => return,
            () = world.stop.cancelled() => return,
        }
        let ticket = world.book.lock().start(Kind::Short, slot, world.now());
        let began = Instant::now();
        let exchange = tokio::select! {
            outcome = hello(&world, slot, &mut connection) => outcome,
            () = world.stop.cancelled() => return,
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now = world.now();
        let (failed, gone) = {
            let mut book = world.book.lock();
            let outcome = exchange.and_then(|origin| book.answer(&ticket, &origin, now));
            if outcome.is_ok() {
                book.latency(micros, ticket.started, now);
            }
            (outcome.is_err(), book.end(Kind::Short, &ticket, &outcome, now))
        };
        if failed {
            world.pause(if gone { AFTER_A_FAILURE * 10 } else { AFTER_A_FAILURE }).await;
        }
    }
}

async fn hello(world: &World, slot: Slot, kept: &mut Option<Connection>) -> Result<Origin, Fault> {
    let mut connection = match kept.take().filter(Connection::is_open) {
        Some(connection) => connection,
        None => Connection::open(world.host, ANSWER_WITHIN).await?,
    };
    let request = request(Method::GET, &format!("/{slot}/hello"), whole(Bytes::new()))?;
    let text = connection.exchange(request, ANSWER_WITHIN).await;
    // After a refusal the connection is as good as before; after anything else it is not used again.
    if matches!(text, Ok(_) | Err(Fault::Status { .. })) {
        *kept = Some(connection);
    }
    decode(&text?)
}
