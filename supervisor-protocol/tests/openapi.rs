//! The OpenAPI document of the admin API, built from the wire types and the table of routes, and compared
//! with the committed one: `UPDATE=1 cargo test -p supervisor-protocol --test openapi` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use supervisor_protocol::admin::{ApiError, DenyList, DrainRequest, Plan, Reloaded, Status, Verb, Why};
use supervisor_protocol::api::{Method, ROUTES, Route};
use supervisor_protocol::artifacts::{ArtifactList, ArtifactStatus, FetchRequest, GcReport};
use supervisor_protocol::catalog::{AcceptRequest, CatalogCheck, CatalogReport, CheckRequest};
use supervisor_protocol::events::Event;
use supervisor_protocol::host::HostDrain;
use supervisor_protocol::logs::LogLine;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/versiond.json");
const REWRITE: &str = "UPDATE=1 cargo test -p supervisor-protocol --test openapi";

/// What is asked and what is answered, each as a content type and a schema.
struct Bodies {
    asked: Option<Value>,
    answered: (&'static str, Value),
    query: &'static [(&'static str, &'static str)],
}

struct Schemas {
    asked: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || SchemaSettings::draft2020_12().with(|it| it.definitions_path = "/components/schemas".into());
        Self {
            asked: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn answer<T: JsonSchema>(&mut self) -> Bodies {
        let schema = self.answered.subschema_for::<T>().to_value();
        Bodies { asked: None, answered: ("application/json", schema), query: &[] }
    }

    fn of(&mut self, route: &Route) -> Bodies {
        let wait: &[_] =
            &[("since", "answer once the sequence number differs from this"), ("wait", "or after so long: `30s`")];
        let text = |kind| Bodies { asked: None, answered: (kind, json!({"type": "string"})), query: &[] };
        match (route.method, route.path) {
            (Method::Get, "/v1/status") => self.answer::<Status>(),
            (Method::Get, "/v1/why") => {
                Bodies { query: &[("slot", "only this slot: SERVICE/VERSION")], ..self.answer::<Why>() }
            }
            (Method::Get, "/v1/plan") => {
                Bodies { query: &[("slot", "only this slot: SERVICE/VERSION")], ..self.answer::<Plan>() }
            }
            (_, "/v1/deny" | "/v1/deny/{sha256}") => self.answer::<DenyList>(),
            (Method::Get, "/v1/events") => {
                // Each `data` field of the stream is one of these.
                let event = self.answered.subschema_for::<Event>().to_value();
                Bodies { answered: ("text/event-stream", event), ..text("") }
            }
            (Method::Get, "/v1/drain" | "/drain/status") => Bodies { query: wait, ..self.answer::<HostDrain>() },
            (Method::Post, "/v1/drain") => {
                let asked = self.asked.subschema_for::<DrainRequest>().to_value();
                Bodies { asked: Some(asked), ..self.answer::<HostDrain>() }
            }
            (Method::Delete, "/v1/drain") => self.answer::<HostDrain>(),
            (Method::Post, "/v1/services/{service}/versions/{version}/{verb}") => {
                let asked = self.asked.subschema_for::<Verb>().to_value();
                Bodies { asked: Some(asked), ..self.answer::<Status>() }
            }
            (Method::Get, "/v1/catalog") => self.answer::<CatalogReport>(),
            (Method::Post, "/v1/catalog/accept") => {
                let asked = self.asked.subschema_for::<AcceptRequest>().to_value();
                Bodies { asked: Some(asked), ..self.answer::<CatalogReport>() }
            }
            (Method::Post, "/v1/catalog/check") => {
                let asked = self.asked.subschema_for::<CheckRequest>().to_value();
                Bodies { asked: Some(asked), ..self.answer::<CatalogCheck>() }
            }
            (Method::Post, "/v1/reload") => self.answer::<Reloaded>(),
            (Method::Get, "/v1/services/{service}/versions/{version}/logs") => {
                let query = &[
                    ("follow", "1: go on with what comes"),
                    ("tail", "only so many of the latest lines"),
                    ("generation", "only of this one"),
                ];
                // Each line of the answer is one of these.
                let line = self.answered.subschema_for::<LogLine>().to_value();
                Bodies { answered: ("application/x-ndjson", line), query, ..text("") }
            }
            (Method::Get, "/v1/services/{service}/versions/{version}/recording") => text("application/x-ndjson"),
            (Method::Get, "/v1/artifacts") => self.answer::<ArtifactList>(),
            (Method::Post, "/v1/artifacts") => {
                let asked = self.asked.subschema_for::<FetchRequest>().to_value();
                Bodies { asked: Some(asked), ..self.answer::<ArtifactStatus>() }
            }
            (Method::Post, "/v1/artifacts/gc") => {
                Bodies { query: &[("dry_run", "true: only say what would be removed")], ..self.answer::<GcReport>() }
            }
            (Method::Get, "/metrics") => text("application/openmetrics-text"),
            (method, path) => panic!("{method} {path}: say here what is asked and answered"),
        }
    }
}

fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(&mut schemas, route);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let error = schemas.answered.subschema_for::<ApiError>().to_value();
    let mut components = schemas.answered.take_definitions(true);
    components.extend(schemas.asked.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "versiond admin API",
            "version": supervisor_protocol::SCHEMA.to_string(),
            "description": "Served on the admin socket. A reader may GET; everything else is for operators.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {"Refused": {
                "description": "Not done, and why, with a stable code.",
                "content": {"application/json": {"schema": error}},
            }},
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "On the TCP listener. On the Unix socket the kernel names the caller.",
            }},
        },
        "security": [{}, {"token": []}],
    })
}

fn operation(schemas: &mut Schemas, route: &Route) -> Value {
    let Bodies { asked, answered: (kind, schema), query } = schemas.of(route);
    let parameter = |place: &str, name: &str, description: &str| {
        json!({
            "in": place, "name": name, "required": place == "path", "schema": {"type": "string"},
            "description": description,
        })
    };
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = in_path
        .map(|name| parameter("path", name, ""))
        .chain(query.iter().map(|(name, meaning)| parameter("query", name, meaning)))
        .collect();
    let words = route.path.split(['/', '{', '}', '-']).filter(|word| !word.is_empty() && *word != "v1");
    let id = std::iter::once(route.method.as_str().to_ascii_lowercase()).chain(words.map(str::to_owned));
    let mut operation = json!({
        "operationId": id.collect::<Vec<_>>().join("_"),
        "summary": route.summary,
        "responses": {
            "200": {"description": "Done.", "content": {(kind): {"schema": schema}}},
            "4XX": {"$ref": "#/components/responses/Refused"},
            "5XX": {"$ref": "#/components/responses/Refused"},
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = asked {
        operation["requestBody"] = json!({"required": false, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

#[test]
fn the_committed_document_is_what_the_types_say() {
    let document = format!("{:#}\n", document());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(Path::new(DOCUMENT), &document).unwrap();
    }
    let committed = std::fs::read_to_string(Path::new(DOCUMENT)).unwrap_or_default();
    assert!(document == committed, "docs/openapi/versiond.json is not what the types say now; run: {REWRITE}");
}

#[test]
fn every_reference_in_the_document_leads_somewhere_and_every_route_is_in_it_once() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut seen = Vec::from(ROUTES);
    seen.sort_by_key(|route| (route.path, route.method));
    seen.dedup_by_key(|route| (route.path, route.method));
    assert_eq!(seen.len(), ROUTES.len());
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(operations, ROUTES.len());
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "$ref" => references.push(text.to_owned()),
                    Some(_) | None => collect(value, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
