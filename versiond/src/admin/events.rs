//! `GET /v1/events`: what happens, as server-sent events. A reader that comes back with `Last-Event-ID` gets
//! what it has missed, as far as that is remembered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use router_dataplane::NoEventId;
use supervisor_protocol::events::{Event, Happening, Happens as _};

use super::Admin;
use super::answer::refuse;

/// Readers at once.
pub(super) const READERS: usize = 32;
/// A comment is sent so often, so that either end notices when the other is gone.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn events(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let last_id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let reader = match admin.board.events().reader(last_id) {
        Ok(reader) => reader,
        Err(error @ NoEventId) => return refuse(StatusCode::BAD_REQUEST, "bad_event_id", error.to_string()),
    };
    let Ok(place) = admin.readers.clone().try_acquire_owned() else {
        let message = format!("{READERS} readers listen already");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", message);
    };
    let events = stream::unfold((reader, place), |(mut reader, place)| async move {
        let (id, event) = reader.next().await?;
        Some((Ok::<_, Infallible>(framed(id, &event)), (reader, place)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

fn framed(id: String, event: &Event) -> sse::Event {
    let framed = sse::Event::default().id(id).event(event.what.as_str());
    // The types of the wire have no map whose keys are no strings, which is all that could fail.
    framed.json_data(event).unwrap_or_else(|_| sse::Event::default().event(Happening::missed(1).as_str()))
}
