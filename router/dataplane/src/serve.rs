//! The path of one request through the plane, from its head to whoever answers it.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use router_core::head::{Framing, Head};
use router_core::reserved::{is_lifecycle, is_reserved};
use supervisor_protocol::headers::HOST;
use supervisor_protocol::{Refusal, StreamClass};

use crate::client::{Announced, Client, ClientBody};
use crate::counters::bump;
use crate::forward::{Gone, Outbound, forward};
use crate::headers;
use crate::hold::{Hold, NoTable, first_table};
use crate::limits::InFlight;
use crate::local::LocalRequest;
use crate::refuse::Refused;
use crate::relay::RelayBody;
use crate::room::weight;
use crate::table::RouteTable;
use crate::way::Way;
use crate::worker::Worker;

/// Answers one request, or finds that nobody waits for the answer.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    client: Client,
    announced: Announced,
    request: Request<ClientBody>,
) -> Result<Response<RelayBody>, Gone> {
    let shared = &worker.shared;
    bump(&shared.counters.requests);
    let mut response = match announced {
        Announced::Head(head) => {
            let response = route(&worker, &client, head, request).await?;
            if head.upgrade && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                client.decide_upgrade(false);
            }
            response
        }
        Announced::Refused(why) => {
            let detail = why.to_string();
            closing(Refused::new(why.refusal()).answer(shared, Some(&detail), client.peer.trusted))
        }
    };
    if let (true, Some(stamp)) = (client.peer.trusted, &worker.stamp) {
        response.headers_mut().insert(HeaderName::from_static(HOST), stamp.clone());
    }
    if *shared.announce.borrow() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        response = closing(response);
    }
    Ok(response)
}

fn closing(mut response: Response<RelayBody>) -> Response<RelayBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn route(
    worker: &Arc<Worker>,
    client: &Client,
    head: Head,
    request: Request<ClientBody>,
) -> Result<Response<RelayBody>, Gone> {
    let shared = &worker.shared;
    let refuse = |refusal: Refusal| Ok(Refused::new(refusal).answer(shared, None, client.peer.trusted));
    if is_reserved(request.uri().path()) {
        return local(worker, client, request).await;
    }
    if let Some(refusal) = shared.closed.load().as_deref() {
        return refuse(*refusal);
    }
    let Some(place) = InFlight::begin(shared) else { return refuse(Refusal::Overloaded) };
    if let (Framing::Length(length), Some(most)) = (head.framing, shared.config.limits.body)
        && length > most
    {
        return refuse(Refusal::BodyTooLarge);
    }
    let (weight, mut hold_until) = (weight(&head), None);
    let is_unknown = |table: &RouteTable| table.is_pending() && table.find(request.uri().path()).is_none();
    if is_unknown(&shared.table.load()) {
        match first_table(shared, client, weight).await {
            Ok(deadline) => hold_until = Some(deadline),
            Err(NoTable::Refused(refused)) => return Ok(refused.answer(shared, None, client.peer.trusted)),
            Err(NoTable::ClientGone) => return Err(Gone),
        }
    }
    let table = shared.table.load();
    if let Some(pools) = table.pools() {
        let path = request.uri().path();
        if is_lifecycle(path) {
            return refuse(Refusal::NotFound);
        }
        let placed = match pools.begin(path) {
            Ok(placed) => placed,
            Err(refused) => return Ok(Refused::from(refused).answer(shared, None, client.peer.trusted)),
        };
        drop(table);
        let Some(uri) = rewritten(request.uri().path(), request.uri().query()) else { return refuse(Refusal::BadHead) };
        let mut outbound = outbound(client, &head, request, uri, placed.class, place);
        for (name, value) in placed.stamps.iter() {
            match value {
                Some(value) => outbound.headers.insert(name, value.clone()),
                None => outbound.headers.remove(name),
            };
        }
        return forward(worker, client, Way::in_pool(placed.first, placed.choices, client), outbound).await;
    }
    let Some(found) = table.find(request.uri().path()) else { return refuse(Refusal::NotFound) };
    if is_lifecycle(found.rest) || is_lifecycle(found.path) {
        return refuse(Refusal::NotFound);
    }
    let Some(uri) = rewritten(found.path, request.uri().query()) else { return refuse(Refusal::BadHead) };
    let (slot, class) = (found.slot, found.class);
    drop(table);

    let outbound = outbound(client, &head, request, uri, class, place);
    let hold = Hold::new(shared, client, &slot, weight, hold_until);
    forward(worker, client, Way::to_slot(hold), outbound).await
}

/// The request as it goes on.
fn outbound(
    client: &Client,
    head: &Head,
    mut request: Request<ClientBody>,
    uri: Uri,
    class: Option<StreamClass>,
    place: InFlight,
) -> Outbound {
    let upgrade = head.upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    headers::to_child(&mut headers, &client.peer, head.upgrade);
    if head.framing == Framing::Chunked {
        // Told nothing, hyper sends no body with a GET or a HEAD.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Outbound { method: parts.method, uri, headers, body, upgrade, class, place }
}

/// The target as the child sees it.
fn rewritten(path: &str, query: Option<&str>) -> Option<Uri> {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path_and_query = http::uri::PathAndQuery::try_from(target).ok()?;
    Some(Uri::from(path_and_query))
}

async fn local(
    worker: &Arc<Worker>,
    client: &Client,
    request: Request<ClientBody>,
) -> Result<Response<RelayBody>, Gone> {
    let shared = &worker.shared;
    let (parts, _) = request.into_parts();
    let answer = shared.local.answer(LocalRequest {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(ToOwned::to_owned),
        peer: client.peer.address,
        headers: parts.headers,
    });
    let answered = tokio::select! {
        biased;
        answered = answer => answered,
        () = client.input_ended() => return Err(Gone),
    };
    Ok(match answered {
        Some(response) => {
            bump(&shared.counters.local);
            response.map(RelayBody::Full)
        }
        None => Refused::new(Refusal::NotFound).answer(shared, None, client.peer.trusted),
    })
}
