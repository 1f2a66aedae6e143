//! Uploads that take a while, with a length or chunked; the answer must know every byte.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::connection::{Connection, request};
use super::{AFTER_A_FAILURE, ANSWER_WITHIN};
use crate::approvals::Ticket;
use crate::artifacts::sha256;
use crate::checks::{Fault, Origin, decode};
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::world::World;

const PIECE: usize = 16 * 1024;
const PIECE_EVERY: Duration = Duration::from_millis(40);
/// 64 KiB to 1 MiB, so 0.2 to 2.6 s.
const PIECES: std::ops::RangeInclusive<usize> = 4..=64;

#[derive(Deserialize)]
struct Arrived {
    bytes: u64,
    sha256: String,
    #[serde(flatten)]
    origin: Origin,
}

/// Uploads until the world winds down or the slot is gone.
pub async fn run(world: Arc<World>, slot: Slot, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !world.is_over() {
        let mut bytes = vec![0u8; rng.random_range(PIECES) * PIECE - rng.random_range(0..PIECE)];
        rng.fill(&mut bytes[..]);
        let bytes = Bytes::from(bytes);
        let ticket = world.book.lock().start(Kind::Upload, slot, world.now());
        let outcome = tokio::select! {
            outcome = upload(&world, &ticket, bytes, rng.random()) => outcome,
            () = world.stop.cancelled() => return,
        };
        if world.book.lock().end(Kind::Upload, &ticket, &outcome, world.now()) {
            return;
        }
        let pause = rng.random_range(50..400);
        world.pause(if outcome.is_ok() { Duration::from_millis(pause) } else { AFTER_A_FAILURE }).await;
    }
}

async fn upload(world: &World, ticket: &Ticket, bytes: Bytes, chunked: bool) -> Result<(), Fault> {
    let mut connection = Connection::open(world.host, ANSWER_WITHIN).await?;
    let mut every = tokio::time::interval(PIECE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = Pieces { left: bytes.clone(), chunked, every };
    let request = request(Method::POST, &format!("/{}/upload", ticket.slot), body.boxed())?;
    let text = connection.exchange(request, ANSWER_WITHIN).await?;
    let arrived: Arrived = decode(&text)?;
    let mut book = world.book.lock();
    book.answer(ticket, &arrived.origin, world.now())?;
    let sent = sha256(&bytes).to_string();
    if arrived.bytes != bytes.len() as u64 || !arrived.sha256.eq_ignore_ascii_case(&sent) {
        let Arrived { bytes: got, sha256: hash, .. } = arrived;
        return Err(Fault::Upload(format!("{got} bytes {hash}, sent were {} bytes {sent}", bytes.len())));
    }
    book.tally.uploaded += arrived.bytes;
    Ok(())
}

/// Bytes that go out piece by piece.
struct Pieces {
    left: Bytes,
    chunked: bool,
    every: Interval,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        std::task::ready!(self.every.poll_tick(cx));
        let piece = PIECE.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // Without a known size hyper sends it chunked.
        if self.chunked { SizeHint::default() } else { SizeHint::with_exact(self.left.len() as u64) }
    }
}
