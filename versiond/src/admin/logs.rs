//! `GET /v1/services/{service}/versions/{version}/logs`: what a slot's children printed, one JSON object a line.
//!
//! The answer is made as the client reads it. A client that does not read holds nobody up: it misses lines, and
//! is told how many.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use supervisor_protocol::Generation;
use supervisor_protocol::admin::{LogLine, LogQuery};
use tokio::sync::OwnedSemaphorePermit;

use super::Admin;
use super::answer::{parse_slot, refuse};
use crate::process::{NoLog, Reader};

/// So many may read at once.
pub(super) const READERS: usize = 32;

pub(super) async fn logs(
    State(admin): State<Arc<Admin>>,
    Path((service, version)): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let slot = match parse_slot(&format!("{service}/{version}")) {
        Ok(slot) => slot,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_query", error.body_text()),
    };
    let follow = match query.follow {
        0 => false,
        1 => true,
        other => return refuse(StatusCode::BAD_REQUEST, "bad_query", format!("follow is 0 or 1, not {other}")),
    };
    let Ok(place) = Arc::clone(&admin.log_readers).try_acquire_owned() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", format!("{READERS} read logs already"));
    };
    match admin.logs.read(&slot, query.generation.map(Generation), query.tail, follow) {
        Ok(reader) => ([(header::CONTENT_TYPE, "application/x-ndjson")], body(reader, place)).into_response(),
        Err(error) => {
            let code = match error {
                NoLog::Slot { .. } => "unknown_slot",
                NoLog::Generation { .. } => "unknown_generation",
            };
            refuse(StatusCode::NOT_FOUND, code, error.to_string())
        }
    }
}

fn body(reader: Reader, place: OwnedSemaphorePermit) -> Body {
    Body::from_stream(stream::unfold((reader, place), async |(mut reader, place)| {
        let lines = reader.next().await?;
        Some((Ok::<_, Infallible>(render(&lines)), (reader, place)))
    }))
}

fn render(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // A line is strings and numbers: it always has a JSON form.
        serde_json::to_writer(&mut text, line).ok();
        text.push(b'\n');
    }
    text.into()
}
