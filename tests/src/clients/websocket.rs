//! WebSockets whose numbered messages must come back in order, closed cleanly by the client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{AFTER_A_FAILURE, ANSWER_WITHIN};
use crate::approvals::Ticket;
use crate::checks::{Fault, StreamCheck};
use crate::options::Lengths;
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::world::World;

const MESSAGE_EVERY: Duration = Duration::from_millis(200);
const ECHO_WITHIN: Duration = Duration::from_secs(15);

/// Keeps one WebSocket open until the world winds down or the slot is gone.
pub async fn run(world: Arc<World>, slot: Slot, lengths: Lengths, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !world.is_over() {
        let length = Duration::from_millis(rng.random_range(lengths.min_ms..=lengths.max_ms));
        let ticket = world.book.lock().start(Kind::WebSocket, slot, world.now());
        let outcome = tokio::select! {
            outcome = talk(&world, &ticket, length) => outcome,
            () = world.stop.cancelled() => return,
        };
        if world.book.lock().end(Kind::WebSocket, &ticket, &outcome, world.now()) {
            return;
        }
        if outcome.is_err() {
            world.pause(AFTER_A_FAILURE).await;
        }
    }
}

async fn talk(world: &World, ticket: &Ticket, length: Duration) -> Result<(), Fault> {
    let mut socket = open(world, ticket.slot).await?;
    let messages = u64::try_from(length.as_millis() / MESSAGE_EVERY.as_millis()).unwrap_or(1).max(1);
    let mut check = StreamCheck::new(1, messages);
    let mut every = tokio::time::interval(MESSAGE_EVERY);
    for number in 1..=messages {
        every.tick().await;
        let message = Message::text(format!("{{\"n\":{number}}}"));
        socket.send(message).await.map_err(|error| check.broken_off(&error.to_string()))?;
        let echo = text(&mut socket).await.map_err(|how| check.broken_off(&how))?;
        check.numbered(&echo)?;
        if let (1, Some(origin)) = (number, check.origin()) {
            world.book.lock().answer(ticket, origin, world.now())?;
        }
    }
    let unclean =
        |how: String| Fault::BrokenOff { after: format!("all {messages} messages, while it was being closed"), how };
    socket.send(Message::Close(None)).await.map_err(|error| unclean(error.to_string()))?;
    match timeout(ECHO_WITHIN, socket.next()).await {
        Err(_) => Err(unclean(format!("nothing within {ECHO_WITHIN:?}"))),
        Ok(Some(Ok(Message::Close(_)))) => Ok(()),
        Ok(Some(Ok(other))) => Err(Fault::Malformed(format!("{other:?} in answer to a close"))),
        Ok(Some(Err(error))) => Err(unclean(error.to_string())),
        Ok(None) => Err(unclean("end of input without a close".to_owned())),
    }
}

async fn open(world: &World, slot: Slot) -> Result<WebSocketStream<TcpStream>, Fault> {
    let opening = async {
        let socket = TcpStream::connect(world.host).await.map_err(|error| Fault::Connect(error.to_string()))?;
        let url = format!("ws://{}/{slot}/ws", world.host);
        let (socket, _) = client_async(url, socket).await.map_err(refused)?;
        Ok(socket)
    };
    timeout(ANSWER_WITHIN, opening)
        .await
        .unwrap_or_else(|_| Err(Fault::NoAnswer(format!("no upgrade within {ANSWER_WITHIN:?}"))))
}

fn refused(error: WsError) -> Fault {
    if let WsError::Http(response) = &error {
        let body = response.body().as_deref().unwrap_or_default();
        let detail = String::from_utf8_lossy(body).trim().chars().take(160).collect();
        return Fault::Status { status: response.status().as_u16(), detail };
    }
    Fault::NoAnswer(error.to_string())
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> Result<String, String> {
    match timeout(ECHO_WITHIN, socket.next()).await {
        Err(_) => Err(format!("no echo within {ECHO_WITHIN:?}")),
        Ok(Some(Ok(Message::Text(text)))) => Ok(text.as_str().to_owned()),
        Ok(Some(Ok(other))) => Err(format!("{other:?} instead of an echo")),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("end of input".to_owned()),
    }
}
