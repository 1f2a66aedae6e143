//! JSON as a tree that knows where it came from: duplicate keys are errors with line and column, and
//! every wrong shape is named by its path (`services.devshardd.versions[0].name`).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::CatalogError;

/// One JSON value. Numbers other than whole ones from 0 are kept apart, since no field wants them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    Number(u64),
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Map(BTreeMap<String, Json>),
}

impl Json {
    pub(super) fn read(bytes: &[u8]) -> Result<Json, CatalogError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            // serde_json appends the place to its own sentence; it is a field of ours.
            let text = error.to_string();
            let place = format!(" at line {line} column {column}");
            CatalogError::Syntax { line, column, detail: text.strip_suffix(&place).unwrap_or(&text).to_owned() }
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool => "true or false",
            Json::Number(_) => "a number",
            Json::OtherNumber => "a negative or broken number",
            Json::Text(_) => "a string",
            Json::List(_) => "a list",
            Json::Map(_) => "an object",
        }
    }
}

/// A value and the path to it.
#[derive(Debug, Clone)]
pub(super) struct At<'j> {
    pub(super) json: &'j Json,
    pub(super) path: String,
}

impl<'j> At<'j> {
    pub(super) fn root(json: &'j Json) -> At<'j> {
        At { json, path: String::new() }
    }

    pub(super) fn shape(&self, detail: impl Into<String>) -> CatalogError {
        let path = if self.path.is_empty() { "the document" } else { &self.path };
        CatalogError::Shape { path: path.to_owned(), detail: detail.into() }
    }

    fn expected(&self, what: &str) -> CatalogError {
        self.shape(format!("expected {what}, found {}", self.json.kind()))
    }

    pub(super) fn text(&self) -> Result<&'j str, CatalogError> {
        let Json::Text(text) = self.json else { return Err(self.expected("a string")) };
        Ok(text)
    }

    pub(super) fn number(&self) -> Result<u64, CatalogError> {
        let Json::Number(number) = self.json else { return Err(self.expected("a whole number from 0")) };
        Ok(*number)
    }

    pub(super) fn list(&self) -> Result<Vec<At<'j>>, CatalogError> {
        let Json::List(items) = self.json else { return Err(self.expected("a list")) };
        Ok(items.iter().enumerate().map(|(index, json)| At { json, path: format!("{}[{index}]", self.path) }).collect())
    }

    pub(super) fn map(&self) -> Result<BTreeMap<&'j str, At<'j>>, CatalogError> {
        let Json::Map(fields) = self.json else { return Err(self.expected("an object")) };
        Ok(fields.iter().map(|(key, json)| (key.as_str(), At { json, path: self.path_of(key) })).collect())
    }

    /// The fields of an object that may hold only those named.
    pub(super) fn fields(&self, known: &[&str]) -> Result<BTreeMap<&'j str, At<'j>>, CatalogError> {
        let fields = self.map()?;
        match fields.iter().find(|(key, _)| !known.contains(*key)) {
            Some((_, unknown)) => Err(unknown.shape(format!("unknown key; known here: {}", known.join(", ")))),
            None => Ok(fields),
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn missing(&self, key: &str) -> CatalogError {
        CatalogError::Shape { path: self.path_of(key), detail: "missing".to_owned() }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(u64::try_from(number).map_or(Json::OtherNumber, Json::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            let value = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Json::Map(fields))
    }
}
