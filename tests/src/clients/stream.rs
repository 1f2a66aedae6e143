//! Streams of numbered server-sent events, each on a connection of its own, each replaced as it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use supervisor_protocol::error::chain;
use tokio::time::timeout;

use super::connection::{Connection, request, whole};
use super::{AFTER_A_FAILURE, ANSWER_WITHIN};
use crate::approvals::Ticket;
use crate::checks::{EventReader, Fault, StreamCheck};
use crate::options::Lengths;
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::world::World;

/// Between two events of a stream.
const EVENT_EVERY_MS: u64 = 250;
/// A stream that says nothing for this long beyond its rhythm has stalled.
const PATIENCE: Duration = Duration::from_secs(15);

/// Keeps one stream alive until the world winds down or the slot is gone.
pub async fn run(world: Arc<World>, slot: Slot, lengths: Lengths, after: Duration, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    world.pause(after).await;
    let mut number = 0u32;
    while !world.is_over() {
        number += 1;
        let ms = rng.random_range(lengths.min_ms..=lengths.max_ms);
        let order = Order { path: format!("/{slot}/sessions/{seed:x}-{number}/stream"), ms, post: rng.random() };
        let ticket = world.book.lock().start(Kind::Stream, slot, world.now());
        let mut open = OpenStream { world: &world, slot, generation: None };
        let outcome = tokio::select! {
            outcome = follow(&world, &ticket, &order, &mut open) => outcome,
            () = world.stop.cancelled() => return,
        };
        drop(open);
        if world.book.lock().end(Kind::Stream, &ticket, &outcome, world.now()) {
            return;
        }
        if outcome.is_err() {
            world.pause(AFTER_A_FAILURE).await;
        }
    }
}

struct Order {
    path: String,
    ms: u64,
    post: bool,
}

/// Keeps the book's count of open streams right, however the stream ends.
struct OpenStream<'w> {
    world: &'w World,
    slot: Slot,
    generation: Option<u64>,
}

impl OpenStream<'_> {
    fn opened(&mut self, generation: u64) {
        self.generation = Some(generation);
        self.world.book.lock().stream_opened(self.slot, generation);
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation {
            self.world.book.lock().stream_closed(self.slot, generation);
        }
    }
}

async fn follow(world: &World, ticket: &Ticket, order: &Order, open: &mut OpenStream<'_>) -> Result<(), Fault> {
    let asked = (order.ms / EVENT_EVERY_MS).max(1);
    let path = format!("{}?ms={}&events={asked}", order.path, order.ms);
    let (method, body) =
        if order.post { (Method::POST, Bytes::from_static(b"{}")) } else { (Method::GET, Bytes::new()) };
    let mut connection = Connection::open(world.host, ANSWER_WITHIN).await?;
    let response = connection.send(request(method, &path, whole(body))?, ANSWER_WITHIN).await?;
    let mut body = response.into_body();
    let mut reader = EventReader::default();
    let mut check = StreamCheck::new(0, asked);
    let patience = PATIENCE + Duration::from_millis(order.ms / asked);
    loop {
        let frame = match timeout(patience, body.frame()).await {
            Err(_) => return Err(check.broken_off(&format!("nothing for {patience:?}"))),
            Ok(None) => return check.end(),
            Ok(Some(Err(error))) => return Err(check.broken_off(&chain(&error))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        for event in reader.push(&data) {
            check.event(&event)?;
            if let (None, Some(origin)) = (open.generation, check.origin()) {
                world.book.lock().answer(ticket, origin, world.now())?;
                open.opened(origin.generation);
            }
            world.book.lock().tally.events += 1;
        }
    }
}
