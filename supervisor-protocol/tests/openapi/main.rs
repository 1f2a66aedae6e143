//! The OpenAPI documents of the admin APIs, built from the wire types and the tables of routes, and compared
//! with the committed ones: `UPDATE=1 cargo test -p supervisor-protocol --test openapi` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod router;
mod versiond;

use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use supervisor_protocol::admin::ApiError;
use supervisor_protocol::api::Route;

use router::ROUTER;
use versiond::VERSIOND;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi");
const REWRITE: &str = "UPDATE=1 cargo test -p supervisor-protocol --test openapi";

/// One API, and what of it a table of routes does not say.
struct Api {
    file: &'static str,
    title: &'static str,
    description: &'static str,
    token: &'static str,
    routes: &'static [Route],
    bodies: fn(&mut Schemas, &Route) -> Bodies,
}

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

    fn ask<T: JsonSchema>(&mut self) -> Option<Value> {
        Some(self.asked.subschema_for::<T>().to_value())
    }

    /// Each event or line of a stream of this kind is one of these.
    fn each<T: JsonSchema>(&mut self, kind: &'static str) -> Bodies {
        Bodies { answered: (kind, self.answered.subschema_for::<T>().to_value()), ..text(kind) }
    }
}

fn text(kind: &'static str) -> Bodies {
    Bodies { asked: None, answered: (kind, json!({"type": "string"})), query: &[] }
}

fn document(api: &Api) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in api.routes {
        let operation = operation(&mut schemas, api, route);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let error = schemas.answered.subschema_for::<ApiError>().to_value();
    let mut components = schemas.answered.take_definitions(true);
    components.extend(schemas.asked.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": api.title,
            "version": supervisor_protocol::SCHEMA.to_string(),
            "description": api.description,
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
                "description": api.token,
            }},
        },
        "security": [{}, {"token": []}],
    })
}

fn operation(schemas: &mut Schemas, api: &Api, route: &Route) -> Value {
    let Bodies { asked, answered: (kind, schema), query } = (api.bodies)(schemas, route);
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
fn the_committed_documents_are_what_the_types_say() {
    for api in [VERSIOND, ROUTER] {
        let (document, path) = (format!("{:#}\n", document(&api)), Path::new(FOLDER).join(api.file));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &document).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(document == committed, "docs/openapi/{} is not what the types say now; run: {REWRITE}", api.file);
    }
}

#[test]
fn every_reference_in_the_documents_leads_somewhere_and_every_route_is_in_one_once() {
    for api in [VERSIOND, ROUTER] {
        let document = document(&api);
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let mut seen = Vec::from(api.routes);
        seen.sort_by_key(|route| (route.path, route.method));
        seen.dedup_by_key(|route| (route.path, route.method));
        assert_eq!(seen.len(), api.routes.len());
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, api.routes.len());
    }
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
