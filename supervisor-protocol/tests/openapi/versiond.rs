//! The admin API of versiond.

use supervisor_protocol::admin::{DenyList, DrainRequest, Plan, Reloaded, Status, Verb, Why};
use supervisor_protocol::api::{Method, ROUTES, Route};
use supervisor_protocol::artifacts::{ArtifactList, ArtifactStatus, FetchRequest, GcReport};
use supervisor_protocol::catalog::{AcceptRequest, CatalogCheck, CatalogReport, CheckRequest};
use supervisor_protocol::events::Event;
use supervisor_protocol::host::HostDrain;
use supervisor_protocol::logs::LogLine;

use super::{Api, Bodies, Schemas, text};

pub(crate) const VERSIOND: Api = Api {
    file: "versiond.json",
    title: "versiond admin API",
    description: "Served on the admin socket. A reader may GET; everything else is for operators.",
    token: "On the TCP listener. On the Unix socket the kernel names the caller.",
    routes: ROUTES,
    bodies,
};

fn bodies(schemas: &mut Schemas, route: &Route) -> Bodies {
    let wait: &[_] =
        &[("since", "answer once the sequence number differs from this"), ("wait", "or after so long: `30s`")];
    match (route.method, route.path) {
        (Method::Get, "/v1/status") => schemas.answer::<Status>(),
        (Method::Get, "/v1/why") => {
            Bodies { query: &[("slot", "only this slot: SERVICE/VERSION")], ..schemas.answer::<Why>() }
        }
        (Method::Get, "/v1/plan") => {
            Bodies { query: &[("slot", "only this slot: SERVICE/VERSION")], ..schemas.answer::<Plan>() }
        }
        (_, "/v1/deny" | "/v1/deny/{sha256}") => schemas.answer::<DenyList>(),
        (Method::Get, "/v1/events") => schemas.each::<Event>("text/event-stream"),
        (Method::Get, "/v1/drain" | "/drain/status") => Bodies { query: wait, ..schemas.answer::<HostDrain>() },
        (Method::Post, "/v1/drain") => Bodies { asked: schemas.ask::<DrainRequest>(), ..schemas.answer::<HostDrain>() },
        (Method::Delete, "/v1/drain") => schemas.answer::<HostDrain>(),
        (Method::Post, "/v1/services/{service}/versions/{version}/{verb}") => {
            Bodies { asked: schemas.ask::<Verb>(), ..schemas.answer::<Status>() }
        }
        (Method::Get, "/v1/catalog") => schemas.answer::<CatalogReport>(),
        (Method::Post, "/v1/catalog/accept") => {
            Bodies { asked: schemas.ask::<AcceptRequest>(), ..schemas.answer::<CatalogReport>() }
        }
        (Method::Post, "/v1/catalog/check") => {
            Bodies { asked: schemas.ask::<CheckRequest>(), ..schemas.answer::<CatalogCheck>() }
        }
        (Method::Post, "/v1/reload") => schemas.answer::<Reloaded>(),
        (Method::Get, "/v1/services/{service}/versions/{version}/logs") => {
            let query = &[
                ("follow", "1: go on with what comes"),
                ("tail", "only so many of the latest lines"),
                ("generation", "only of this one"),
            ];
            Bodies { query, ..schemas.each::<LogLine>("application/x-ndjson") }
        }
        (Method::Get, "/v1/services/{service}/versions/{version}/recording") => text("application/x-ndjson"),
        (Method::Get, "/v1/artifacts") => schemas.answer::<ArtifactList>(),
        (Method::Post, "/v1/artifacts") => {
            Bodies { asked: schemas.ask::<FetchRequest>(), ..schemas.answer::<ArtifactStatus>() }
        }
        (Method::Post, "/v1/artifacts/gc") => {
            Bodies { query: &[("dry_run", "true: only say what would be removed")], ..schemas.answer::<GcReport>() }
        }
        (Method::Get, "/metrics") => text("application/openmetrics-text"),
        (method, path) => panic!("{method} {path}: say here what is asked and answered"),
    }
}
