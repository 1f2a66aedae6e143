//! A ring of events as server-sent events. A reader that comes back with `Last-Event-ID` gets what it has missed,
//! as far as that is remembered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use supervisor_protocol::events::{Event, Happens};
use tokio::sync::Semaphore;

use crate::events::{Events, NoEventId};

/// Readers at once.
pub const READERS: usize = 32;
/// A comment is sent so often, so that either end notices when the other is gone.
const ALIVE: Duration = Duration::from_secs(15);

/// Why a reader gets no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoStream {
    #[error(transparent)]
    EventId(#[from] NoEventId),
    #[error("{READERS} readers listen already")]
    TooManyReaders,
}

impl NoStream {
    /// The stable code of the refusal.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            NoStream::EventId(NoEventId) => "bad_event_id",
            NoStream::TooManyReaders => "too_many_readers",
        }
    }

    /// Its status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            NoStream::EventId(NoEventId) => StatusCode::BAD_REQUEST,
            NoStream::TooManyReaders => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The events from where the reader left, and all that come. `places` has a permit for each of the [`READERS`].
///
/// # Errors
/// `Last-Event-ID` is none, or no place is left.
pub fn stream<W>(events: &Arc<Events<W>>, headers: &HeaderMap, places: &Arc<Semaphore>) -> Result<Response, NoStream>
where
    W: Happens + Serialize + Send + Sync + 'static,
{
    let last_id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let reader = events.reader(last_id)?;
    let place = places.clone().try_acquire_owned().map_err(|_| NoStream::TooManyReaders)?;
    let events = stream::unfold((reader, place), |(mut reader, place)| async move {
        let (id, event) = reader.next().await?;
        Some((Ok::<_, Infallible>(framed(id, &event)), (reader, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

fn framed<W: Happens + Serialize>(id: String, event: &Event<W>) -> sse::Event {
    let framed = sse::Event::default().id(id).event(event.what.as_str());
    // The types of the wire have no map whose keys are no strings, which is all that could fail.
    framed.json_data(event).unwrap_or_else(|_| sse::Event::default().event(W::missed(1).as_str()))
}
