//! `GET /v1/events`: what happens, as server-sent events. A reader that comes back with `Last-Event-ID` gets
//! what it has missed, as far as that is remembered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use supervisor_protocol::BootNonce;
use supervisor_protocol::events::{Event, Happening};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Admin;
use super::answer::refuse;

/// Readers at once.
pub(super) const READERS: usize = 32;
/// A comment is sent so often, so that either end notices when the other is gone.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn events(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let after = match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(parse_id)) {
        None => 0,
        // Of another life of the daemon: everything of this one is new.
        Some(Some((boot, _))) if boot != admin.board.boot().as_str() => 0,
        Some(Some((_, number))) => number,
        Some(None) => {
            let message = "Last-Event-ID is the id of an event of this stream".to_owned();
            return refuse(StatusCode::BAD_REQUEST, "bad_event_id", message);
        }
    };
    let Ok(place) = admin.readers.clone().try_acquire_owned() else {
        let message = format!("{READERS} readers listen already");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", message);
    };
    let reader =
        Reader { after, waiting: VecDeque::new(), changes: admin.board.events().changes(), admin, _place: place };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

/// Where a reader is.
struct Reader {
    admin: Arc<Admin>,
    after: u64,
    waiting: VecDeque<Event>,
    changes: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.number;
                return Some(framed(self.admin.board.boot(), &event));
            }
            self.changes.borrow_and_update();
            self.waiting = self.admin.board.events().after(self.after).into();
            if self.waiting.is_empty() {
                self.changes.changed().await.ok()?;
            }
        }
    }
}

fn framed(boot: &BootNonce, event: &Event) -> sse::Event {
    let framed = sse::Event::default().id(format!("{boot}-{}", event.number)).event(event.what.as_str());
    // The types of the wire have no map whose keys are no strings, which is all that could fail.
    framed.json_data(event).unwrap_or_else(|_| sse::Event::default().event(Happening::Missed { events: 1 }.as_str()))
}

fn parse_id(id: &str) -> Option<(&str, u64)> {
    let (boot, number) = id.rsplit_once('-')?;
    Some((boot, number.parse().ok()?))
}
