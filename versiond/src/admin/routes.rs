//! Every route of the admin API with its handler. A route that `supervisor_protocol::api` does not list is an
//! error of a test, and so is the reverse.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use supervisor_protocol::api::Method::{self, Delete, Get, Post};

use super::answer::refuse;
use super::{Admin, artifacts, catalog, deny, drain, events, guard, logs, metrics, recording, reload, status, verbs};

/// The whole API, behind its guard.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    let routes = handlers().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    let guard = axum::middleware::from_fn_with_state(admin.clone(), guard::guard);
    routes.fallback(unknown).layer(guard).with_state(admin)
}

/// What the metrics listener has, to which everybody may come.
pub(super) fn metrics_alone(admin: Arc<Admin>) -> Router {
    Router::new().route("/metrics", get(metrics::render)).with_state(admin)
}

fn handlers() -> Vec<(Method, &'static str, MethodRouter<Arc<Admin>>)> {
    vec![
        (Get, "/v1/status", get(status::status)),
        (Get, "/v1/why", get(status::why)),
        (Get, "/v1/plan", get(status::plan)),
        (Get, "/v1/deny", get(deny::list)),
        (Post, "/v1/deny/{sha256}", post(deny::deny)),
        (Delete, "/v1/deny/{sha256}", delete(deny::allow)),
        (Get, "/v1/events", get(events::events)),
        (Get, "/v1/drain", get(drain::status)),
        (Post, "/v1/drain", post(drain::drain)),
        (Delete, "/v1/drain", delete(drain::undrain)),
        (Get, "/v1/catalog", get(catalog::report)),
        (Post, "/v1/catalog/accept", post(catalog::accept)),
        (Post, "/v1/catalog/check", post(catalog::check)),
        (Post, "/v1/reload", post(reload::reload)),
        (Get, "/v1/artifacts", get(artifacts::list)),
        (Post, "/v1/artifacts", post(artifacts::fetch)),
        (Post, "/v1/artifacts/gc", post(artifacts::collect)),
        (Get, "/v1/services/{service}/versions/{version}/logs", get(logs::logs)),
        (Get, "/v1/services/{service}/versions/{version}/recording", get(recording::recording)),
        (Post, "/v1/services/{service}/versions/{version}/{verb}", post(verbs::order)),
        (Get, "/drain/status", get(drain::status)),
        (Get, "/metrics", get(metrics::render)),
    ]
}

async fn unknown(uri: Uri) -> Response {
    refuse(StatusCode::NOT_FOUND, "unknown_path", format!("there is nothing at {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use supervisor_protocol::api::ROUTES;

    use super::*;

    #[test]
    fn the_router_and_the_document_have_the_same_routes() {
        let served: BTreeSet<_> = handlers().into_iter().map(|(method, path, _)| (method, path)).collect();
        let listed: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
        assert_eq!(served, listed);
    }
}
