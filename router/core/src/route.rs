//! The grammar of routes: which service, and which of its versions, a path belongs to.
//!
//! A pattern matches a prefix of whole segments of the raw path; nothing is decoded. The most specific
//! pattern comes first. Lives here: matching. Must not live here: what serves a route.

use std::fmt;
use std::str::FromStr;

use supervisor_protocol::VersionName;

use crate::segments::{self, Segment};
pub use crate::segments::{Fault, PatternError};

/// The one placeholder that a supervisor knows.
const VERSION: &str = "version";

/// `/devshard/{version}`, `/v1`, or `/` for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePattern {
    segments: Vec<Segment>,
    prefix: Prefix,
}

/// What becomes of the part of the path that a pattern matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// The child sees the rest only.
    Stripped,
    /// The child sees the whole path.
    Kept,
}

/// A path that a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched<'p> {
    /// What stood where the pattern says `{version}`.
    pub version: Option<VersionName>,
    /// What the child is asked for: always begins with a slash.
    pub path: &'p str,
    /// What follows the matched segments, whether or not it is stripped: empty or begins with a slash.
    pub rest: &'p str,
}

impl RoutePattern {
    /// Reads a pattern. Its prefix is stripped from what is forwarded.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let segments = segments::parse(text, |name| if name == VERSION { Ok(()) } else { Err(Fault::OnlyVersion) })?;
        Ok(Self { segments, prefix: Prefix::Stripped })
    }

    /// The same pattern, with another treatment of the matched part.
    #[must_use]
    pub fn with_prefix(self, prefix: Prefix) -> Self {
        Self { prefix, ..self }
    }

    /// Whether the pattern names the version.
    #[must_use]
    pub fn has_version(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Placeholder(_)))
    }

    /// Matches a raw path (no query). `None` when it belongs elsewhere.
    #[must_use]
    pub fn matches<'p>(&self, path: &'p str) -> Option<Matched<'p>> {
        let mut version = None;
        let rest = segments::walk(&self.segments, path, |_, text| {
            version = VersionName::new(text).ok();
            version.is_some()
        })?;
        let path = match self.prefix {
            Prefix::Kept => path,
            Prefix::Stripped if rest.is_empty() => "/",
            Prefix::Stripped => rest,
        };
        Some(Matched { version, path, rest })
    }

    /// Orders patterns so that the most specific comes first: more segments, then literals before
    /// placeholders, then by name.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> std::cmp::Ordering {
        segments::shape(&self.segments).cmp(&segments::shape(&other.segments))
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        segments::write(&self.segments, f)
    }
}

impl FromStr for RoutePattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: Option<(Option<&str>, &str)>) {
        let pattern = RoutePattern::parse(pattern).unwrap();
        let matched = pattern.matches(path);
        let seen = matched.as_ref().map(|m| (m.version.as_ref().map(VersionName::as_str), m.path));
        assert_eq!(seen, expected, "{pattern} on {path}");
    }

    #[test]
    fn a_pattern_matches_whole_segments_and_strips_them() {
        check("/devshard/{version}", "/devshard/v1/chat", Some((Some("v1"), "/chat")));
        check("/devshard/{version}", "/devshard/v1", Some((Some("v1"), "/")));
        check("/devshard/{version}", "/devshard/v1/", Some((Some("v1"), "/")));
        check("/devshard/{version}", "/devshard/", None);
        check("/devshard/{version}", "/devshard", None);
        check("/devshard/{version}", "/devshards/v1", None);
        check("/devshard/{version}", "/devshard/.hidden/x", None);
        check("/v1", "/v1/models", Some((None, "/models")));
        check("/v1", "/v1", Some((None, "/")));
        check("/v1", "/v10/models", None);
        check("/v1", "/V1/models", None);
        check("/", "/anything/at/all", Some((None, "/anything/at/all")));
        check("/{version}", "/v0.2.13+a~b/x//y", Some((Some("v0.2.13+a~b"), "/x//y")));
        check("/v1", "//v1", None);
    }

    #[test]
    fn a_kept_prefix_is_forwarded() {
        let pattern = RoutePattern::parse("/v1/").unwrap().with_prefix(Prefix::Kept);
        let matched = pattern.matches("/v1/chat").unwrap();
        assert_eq!((matched.path, matched.rest), ("/v1/chat", "/chat"));
    }

    #[test]
    fn the_most_specific_pattern_comes_first() {
        let mut patterns: Vec<RoutePattern> =
            ["/", "/{version}", "/v1", "/devshard/{version}", "/devshard/stable"].map(|p| p.parse().unwrap()).into();
        patterns.sort_by(RoutePattern::specificity);
        let order: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["/devshard/stable", "/devshard/{version}", "/v1", "/{version}", "/"]);
    }

    #[test]
    fn other_patterns_are_refused() {
        for text in ["v1", "", "/a//b", "/../x", "/{version}/{version}", "/{name}", "/a{version}", "/a%2fb", "/a b"] {
            assert!(RoutePattern::parse(text).is_err(), "{text}");
        }
    }
}
