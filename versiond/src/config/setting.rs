//! One value: where it may come from, which of them wins, and how it is remembered.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::{Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::{ConfigError, Env};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: Utf8PathBuf, line: usize },
    Env(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Env(name) => f.write_str(name),
        }
    }
}

/// A value as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// A string, a whole number or a boolean as text, so that the file and the environment are read alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a whole number or a boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
        Ok(Scalar(truth.to_string()))
    }
}

/// Where a key may be read, in the order in which they win.
pub(super) struct Source<'s> {
    pub(super) path: &'s Utf8Path,
    pub(super) text: &'s str,
    pub(super) env: &'s Env,
    pub(super) settings: Vec<Setting>,
}

impl Source<'_> {
    /// The value of `key`: the first of the environment's `names` that is set, else the file's.
    pub(super) fn pick<T, E>(
        &mut self,
        key: &str,
        names: &[&str],
        file: Option<Spanned<Scalar>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let from_env = names.iter().find_map(|name| self.env.get(*name).map(|text| (text.clone(), *name)));
        let (text, origin) = match (from_env, file) {
            (Some((text, name)), _) => (text, Origin::Env(name.to_owned())),
            (None, Some(spanned)) => {
                let origin = self.origin(spanned.span().start);
                (spanned.into_inner().0, origin)
            }
            (None, None) => return Ok(None),
        };
        match parse(&text) {
            Ok(value) => {
                self.settings.push(Setting { key: key.to_owned(), value: text, origin });
                Ok(Some(value))
            }
            Err(error) => Err(ConfigError::Value { key: key.to_owned(), value: text, origin, source: error.into() }),
        }
    }

    /// Like [`Source::pick`], with a default, written as an operator would write it.
    pub(super) fn pick_or<T, E>(
        &mut self,
        key: &str,
        names: &[&str],
        file: Option<Spanned<Scalar>>,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(value) = self.pick(key, names, file, &parse)? {
            return Ok(value);
        }
        let (key, value, origin) = (key.to_owned(), default.to_owned(), Origin::Default);
        match parse(default) {
            Ok(parsed) => {
                self.settings.push(Setting { key, value, origin });
                Ok(parsed)
            }
            Err(error) => Err(ConfigError::Value { key, value, origin, source: error.into() }),
        }
    }

    /// Remembers a default that was not written but found.
    pub(super) fn default_to(&mut self, key: &str, value: &impl fmt::Display) {
        self.settings.push(Setting { key: key.to_owned(), value: value.to_string(), origin: Origin::Default });
    }

    /// A value that cannot come from the environment.
    pub(super) fn note(&mut self, key: String, value: String, at: usize) {
        let origin = self.origin(at);
        self.settings.push(Setting { key, value, origin });
    }

    pub(super) fn refuse(
        &self,
        key: String,
        value: String,
        at: usize,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ConfigError {
        ConfigError::Value { key, value, origin: self.origin(at), source: source.into() }
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: line_of(self.text, at) }
    }
}

/// The line, counted from 1, of a byte offset.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
