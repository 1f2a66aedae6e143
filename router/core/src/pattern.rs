//! The routes of a router: which pool a path belongs to, and which key places it there.
//!
//! A pattern is segments of the raw path, and is matched whole or, with `/*` at its end, as a prefix. The most
//! specific comes first. A leading `/devshard/` is ignored, in a pattern as in a path, and what is forwarded
//! is the path as it came. A key is made of what the path holds, never of a header. Lives here: reading and
//! matching. Must not live here: what a pool is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use supervisor_protocol::VersionName;

use crate::reserved::is_reserved;
use crate::segments::{self, Fault, PatternError, Segment};

/// What clients may put before a path, and need not.
const OPTIONAL: &str = "devshard";
const VERSION: &str = "version";

/// `/devshard/{version}/sessions/{session}/*`, `/v1/*`, or `/*` for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tail {
    Nothing,
    Anything,
}

/// What a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyTemplate {
    /// The path without its query and without a leading `/devshard`.
    WholePath,
    /// Texts and placeholders, as in `{version}/{session}`.
    Parts(Vec<KeyPart>),
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    Text(String),
    Placeholder(String),
}

/// Every route of a router, most specific first. `T` is what a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes<T>(Vec<Route<T>>);

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<T> {
    pub pattern: PathPattern,
    pub key: KeyTemplate,
    pub to: T,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'r, 'p, T> {
    /// It is the router's own, and never forwarded.
    Reserved,
    /// No pattern matches it.
    Unrouted,
    Routed(Routed<'r, 'p, T>),
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed<'r, 'p, T> {
    pub to: &'r T,
    pub pattern: &'r PathPattern,
    pub key: Cow<'p, str>,
    /// What stood at `{version}`, where the pattern has it.
    pub version: Option<VersionName>,
}

type Captures<'r, 'p> = Vec<(&'r str, &'p str)>;

impl<T> Routes<T> {
    /// Orders the routes. Two that match the same paths are refused.
    pub fn new(mut routes: Vec<Route<T>>) -> Result<Self, PatternError> {
        routes.sort_by(|a, b| a.pattern.shape().cmp(&b.pattern.shape()));
        let twice = routes.windows(2).find(|pair| pair[0].pattern.shape() == pair[1].pattern.shape());
        match twice {
            Some(pair) => Err(PatternError { pattern: pair[1].pattern.to_string(), at: 0, fault: Fault::SamePaths }),
            None => Ok(Self(routes)),
        }
    }

    /// The quick start: everything leads to one place. What a `--key` pattern matches as a prefix has its
    /// placeholders as the key, each by name; of anything else the whole path is the key.
    pub fn by_key(key: &str, to: T) -> Result<Self, PatternError>
    where
        T: Clone,
    {
        let pattern = PathPattern::prefix(key)?;
        let everything = PathPattern { segments: Vec::new(), tail: Tail::Anything };
        let rest = Route { pattern: everything, key: KeyTemplate::WholePath, to: to.clone() };
        if pattern.segments.is_empty() {
            return Self::new(vec![rest]);
        }
        let key = KeyTemplate::of_session(&pattern).ok_or_else(|| PatternError {
            pattern: key.to_owned(),
            at: 0,
            fault: Fault::EmptyKey,
        })?;
        Self::new(vec![Route { pattern, key, to }, rest])
    }

    /// Where a raw path leads (no query).
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Found<'_, 'p, T> {
        let bare = without_optional(path);
        if is_reserved(path) || is_reserved(bare) {
            return Found::Reserved;
        }
        let matched = self.0.iter().find_map(|route| {
            let captures = route.pattern.captures(path)?;
            Some((route, captures))
        });
        let Some((route, captures)) = matched else { return Found::Unrouted };
        let version = captures.iter().find(|(name, _)| *name == VERSION);
        Found::Routed(Routed {
            to: &route.to,
            pattern: &route.pattern,
            key: route.key.fill(bare, &captures),
            version: version.and_then(|(_, text)| VersionName::new(*text).ok()),
        })
    }

    /// The routes, most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &Route<T>> {
        self.0.iter()
    }
}

impl PathPattern {
    /// Reads a `match` of `router.toml`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (body, tail) = match text.strip_suffix("/*") {
            Some("") => ("/", Tail::Anything),
            Some(body) => (body, Tail::Anything),
            None => (text, Tail::Nothing),
        };
        Self::read(text, body, tail)
    }

    /// Reads a `--key`, which is a prefix of whole segments without saying so.
    pub fn prefix(text: &str) -> Result<Self, PatternError> {
        Self::parse(text).map(|pattern| Self { tail: Tail::Anything, ..pattern })
    }

    /// Whether a raw path (no query) is matched.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.captures(path).is_some()
    }

    /// Whether the pattern names the version.
    #[must_use]
    pub fn has_version(&self) -> bool {
        self.placeholders().any(|name| name == VERSION)
    }

    /// The names of its placeholders, as they come.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Placeholder(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    fn read(text: &str, body: &str, tail: Tail) -> Result<Self, PatternError> {
        let wrong = |at, fault| PatternError { pattern: text.to_owned(), at, fault };
        let mut segments = segments::parse(body, |_| Ok(())).map_err(|error| wrong(error.at, error.fault))?;
        if let Some(at) = body.find('*') {
            return Err(wrong(at, Fault::Star));
        }
        let optional = Segment::Literal(OPTIONAL.to_owned());
        // Written twice it says no more than once.
        while segments.len() > 1 && segments.first() == Some(&optional) {
            segments.remove(0);
        }
        match segments.first() {
            Some(Segment::Literal(first)) if is_reserved(first) => Err(wrong(0, Fault::Reserved)),
            Some(Segment::Literal(_) | Segment::Placeholder(_)) | None => Ok(Self { segments, tail }),
        }
    }

    fn captures<'p>(&self, path: &'p str) -> Option<Captures<'_, 'p>> {
        // `/devshard/*` itself is about the path as it came.
        let spelled_out = matches!(self.segments.first(), Some(Segment::Literal(first)) if first == OPTIONAL);
        self.walk(if spelled_out { path } else { without_optional(path) })
    }

    fn walk<'p>(&self, path: &'p str) -> Option<Captures<'_, 'p>> {
        let mut captures = Captures::new();
        let rest = segments::walk(&self.segments, path, |name, text| {
            captures.push((name, text));
            // What a host calls its own is no version there either.
            let is_version = || VersionName::new(text).is_ok_and(|version| !version.is_reserved());
            if name == VERSION { is_version() } else { !text.is_empty() }
        })?;
        match self.tail {
            Tail::Anything => Some(captures),
            Tail::Nothing => matches!(rest, "" | "/").then_some(captures),
        }
    }

    fn shape(&self) -> (segments::Shape<'_>, Tail) {
        (segments::shape(&self.segments), self.tail)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        segments::write(&self.segments, f)?;
        match self.tail {
            Tail::Anything => f.write_str("/*"),
            Tail::Nothing if self.segments.is_empty() => f.write_str("/"),
            Tail::Nothing => Ok(()),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl KeyTemplate {
    /// Reads a `key` of `router.toml`, as `{session}`, for the paths that a pattern matches.
    pub fn parse(text: &str, pattern: &PathPattern) -> Result<Self, PatternError> {
        let wrong = |at, fault| PatternError { pattern: text.to_owned(), at, fault };
        let mut parts = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let Some(inner) = rest.strip_prefix('{') else {
                let end = rest.find(['{', '}']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(wrong(at, Fault::Placeholder));
                }
                parts.push(KeyPart::Text(rest[..end].to_owned()));
                at += end;
                continue;
            };
            let name = inner.split_once('}').map(|(name, _)| name).filter(|name| segments::is_name(name));
            let name = name.ok_or_else(|| wrong(at, Fault::Placeholder))?;
            if !pattern.placeholders().any(|known| known == name) {
                return Err(wrong(at, Fault::NotInPath(name.to_owned())));
            }
            parts.push(KeyPart::Placeholder(name.to_owned()));
            at += name.len() + 2;
        }
        if parts.iter().any(|part| matches!(part, KeyPart::Placeholder(_))) {
            Ok(Self::Parts(parts))
        } else {
            Err(wrong(0, Fault::EmptyKey))
        }
    }

    /// The placeholders of a `--key`, without the version: a session stays one when its version does not.
    fn of_session(pattern: &PathPattern) -> Option<Self> {
        let names: Vec<&str> = pattern.placeholders().collect();
        let told = |name: &&str| names.len() == 1 || **name != *VERSION;
        let mut parts = Vec::new();
        for name in names.iter().filter(|name| told(name)) {
            if !parts.is_empty() {
                parts.push(KeyPart::Text("/".to_owned()));
            }
            parts.push(KeyPart::Placeholder((*name).to_owned()));
        }
        (!parts.is_empty()).then_some(Self::Parts(parts))
    }

    fn fill<'p>(&self, path: &'p str, captures: &Captures<'_, 'p>) -> Cow<'p, str> {
        let of = |name: &str| captures.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
        match self {
            KeyTemplate::WholePath => Cow::Borrowed(path),
            KeyTemplate::Parts(parts) => match parts.as_slice() {
                [KeyPart::Placeholder(name)] => Cow::Borrowed(of(name)),
                parts => parts
                    .iter()
                    .map(|part| match part {
                        KeyPart::Text(text) => text.as_str(),
                        KeyPart::Placeholder(name) => of(name),
                    })
                    .collect(),
            },
        }
    }
}

fn without_optional(path: &str) -> &str {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(OPTIONAL));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
