//! The admin API of versiond-router.

use supervisor_protocol::api::{Method, ROUTER_ROUTES, Route};
use supervisor_protocol::events::Event;
use supervisor_protocol::router::events::Change;
use supervisor_protocol::router::{Hosts, LookupReport, Pools, RouterDrain, RouterReady};

use super::{Api, Bodies, Schemas, text};

pub(crate) const ROUTER: Api = Api {
    file: "versiond-router.json",
    title: "versiond-router admin API",
    description: "Served on [router] admin. With a token, /livez and /readyz alone do without it.",
    token: "That of [router] admin_token_file.",
    routes: ROUTER_ROUTES,
    bodies,
};

fn bodies(schemas: &mut Schemas, route: &Route) -> Bodies {
    match (route.method, route.path) {
        (Method::Get, "/livez") => text("text/plain"),
        (Method::Get, "/readyz") => schemas.answer::<RouterReady>(),
        (Method::Get, "/v1/pools") => schemas.answer::<Pools>(),
        (Method::Get, "/v1/hosts") => schemas.answer::<Hosts>(),
        (Method::Get, "/v1/lookup") => {
            Bodies { query: &[("path", "the path that a request would have")], ..schemas.answer::<LookupReport>() }
        }
        (Method::Get, "/v1/events") => schemas.each::<Event<Change>>("text/event-stream"),
        (Method::Put | Method::Delete, "/v1/hosts/{id}/drain") => schemas.answer::<Hosts>(),
        (Method::Get, "/drain/status") => {
            let query = &[("wait", "answer once no draining host has a request, or after so long: `30s`")];
            Bodies { query, ..schemas.answer::<RouterDrain>() }
        }
        (Method::Get, "/metrics") => text("application/openmetrics-text"),
        (method, path) => panic!("{method} {path}: say here what is asked and answered"),
    }
}
