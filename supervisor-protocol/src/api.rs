//! The routes of the admin APIs, of a supervisor and of a router: which there are, and what each is for. What is
//! served and the OpenAPI documents are both checked against these tables.

use std::fmt;

/// A method of the admin API. `GET` changes nothing and may be asked by readers; the others are for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    /// As a request has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// With `{name}` for each parameter.
    pub path: &'static str,
    pub method: Method,
    pub summary: &'static str,
}

const fn get(path: &'static str, summary: &'static str) -> Route {
    Route { path, method: Method::Get, summary }
}

const fn post(path: &'static str, summary: &'static str) -> Route {
    Route { path, method: Method::Post, summary }
}

const fn put(path: &'static str, summary: &'static str) -> Route {
    Route { path, method: Method::Put, summary }
}

const fn delete(path: &'static str, summary: &'static str) -> Route {
    Route { path, method: Method::Delete, summary }
}

/// Every route of a supervisor, in the order of the document.
pub const ROUTES: &[Route] = &[
    get("/v1/status", "The host, its catalog, every slot and generation, the latest receipts."),
    get("/v1/why", "Every wait and refusal, of one slot or of all, with the fact it rests on."),
    get("/v1/plan", "What the next change of each slot would be, and what keeps it from being made now."),
    get("/v1/events", "What happens, as server-sent events; `Last-Event-ID` goes on where a reader left."),
    get("/v1/drain", "How far the host's drain has come; `since` and `wait` make it a long poll."),
    post("/v1/drain", "Cordons the host: unready, still admitting."),
    delete("/v1/drain", "Takes the cordon back."),
    get("/v1/deny", "What may not run here, by whom it is denied."),
    post("/v1/deny/{sha256}", "Lets these bytes run no more, wherever they do."),
    delete("/v1/deny/{sha256}", "Takes an operator's denial back; what the catalog denies stays denied."),
    get("/v1/catalog", "What is known of the catalog: the document in force, its source, what was refused."),
    post("/v1/catalog/accept", "Reads the source now; with `reset`, what it says is taken as a first document."),
    post("/v1/catalog/check", "Reads a document as this host would, and changes nothing."),
    post("/v1/reload", "Reads the configuration again; refused whole when it is not valid."),
    get("/v1/artifacts", "What the store holds and why, what is on its way there, what could not be had."),
    post("/v1/artifacts", "Fetches ahead what a slot wants, or bytes of which the hash is known."),
    post("/v1/artifacts/gc", "Removes from the store what nothing needs, and says why the rest stays."),
    get("/v1/services/{service}/versions/{version}/logs", "What a slot's children printed, one JSON object a line."),
    get(
        "/v1/services/{service}/versions/{version}/recording",
        "What a slot was told lately, for `versionctl replay`: one JSON object a line, in a form of its own.",
    ),
    post("/v1/services/{service}/versions/{version}/{verb}", "An order to one slot; answers once it is in force."),
    get("/drain/status", "The same as `GET /v1/drain`, under the name that the status listener has."),
    get("/metrics", "The daemon's metrics and those of every live generation, labelled."),
];

/// Every route of a router, in the order of the document.
pub const ROUTER_ROUTES: &[Route] = &[
    get("/livez", "Whether the process answers at all; asks for no token."),
    get("/readyz", "Whether every member is known and the router does not stop; asks for no token."),
    get("/v1/pools", "Every pool with its hosts, versions and alarms."),
    get("/v1/hosts", "Every member of every pool: its health, its role, its share, what is in flight there."),
    get("/v1/lookup", "Which host a path would go to, why, the next choices, and who may not be chosen."),
    get("/v1/events", "What changes, as server-sent events; `Last-Event-ID` goes on where a reader left."),
    put("/v1/hosts/{id}/drain", "Drains a host that cannot say itself that it is to be drained."),
    delete("/v1/hosts/{id}/drain", "Takes such a drain back."),
    get("/drain/status", "Every host that drains, and what this router still has there; `wait` makes it a long poll."),
    get("/metrics", "The router's metrics."),
];
