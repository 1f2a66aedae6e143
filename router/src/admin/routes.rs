//! Every route of the admin API with its handler. A route that `supervisor_protocol::api` does not list is an
//! error of a test, and so is the reverse.

use std::sync::Arc;

use axum::Router as Api;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, put};
use supervisor_protocol::api::Method::{self, Delete, Get, Put};

use super::{
    Admin, drain, drain_status, events, guard, hosts, livez, lookup, metrics, page, pools, readyz, refuse, undrain,
};

type Handlers = Vec<(Method, &'static str, MethodRouter<Arc<Admin>>)>;

/// The whole API.
pub(super) fn api(admin: Arc<Admin>) -> Api {
    let routes = |handlers: Handlers| {
        handlers.into_iter().fold(Api::new(), |routes, (_, path, handler)| routes.route(path, handler))
    };
    let guarded = routes(guarded()).layer(middleware::from_fn_with_state(admin.clone(), guard));
    routes(open())
        .merge(guarded)
        .merge(page::routes())
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "unknown_path", "there is no such endpoint") })
        .with_state(admin)
}

/// For whoever has to know whether to send requests here.
fn open() -> Handlers {
    vec![(Get, "/livez", get(livez)), (Get, "/readyz", get(readyz))]
}

fn guarded() -> Handlers {
    vec![
        (Get, "/v1/pools", get(pools)),
        (Get, "/v1/hosts", get(hosts)),
        (Get, "/v1/lookup", get(lookup)),
        (Get, "/v1/events", get(events::events)),
        (Put, "/v1/hosts/{id}/drain", put(drain)),
        (Delete, "/v1/hosts/{id}/drain", delete(undrain)),
        (Get, "/drain/status", get(drain_status)),
        (Get, "/metrics", get(metrics)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use supervisor_protocol::api::ROUTER_ROUTES;

    use super::*;

    #[test]
    fn the_router_and_the_document_have_the_same_routes() {
        let served: BTreeSet<_> = open().into_iter().chain(guarded()).map(|(method, path, _)| (method, path)).collect();
        let listed: BTreeSet<_> = ROUTER_ROUTES.iter().map(|route| (route.method, route.path)).collect();
        assert_eq!(served, listed);
    }
}
