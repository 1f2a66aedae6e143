//! What the patterns of versiond and those of the router have in common: whole segments of a raw path, each a
//! literal or a placeholder. Nothing is decoded.
//!
//! Lives here: reading, matching and ordering segments. Must not live here: which placeholders there are and
//! what they mean.

use std::cmp::Reverse;
use std::fmt;

/// Why a pattern was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?}, at {:?} (position {at}): {fault}", pattern.get(*at..).unwrap_or_default())]
pub struct PatternError {
    pub pattern: String,
    /// The byte at which the trouble begins.
    pub at: usize,
    pub fault: Fault,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it begins with '/'")]
    NoSlash,
    #[error("it has no empty, '.' or '..' segment")]
    Segment,
    #[error("the only placeholder is {{version}}")]
    OnlyVersion,
    #[error("a placeholder is a whole segment: '{{', a name of lower-case letters, digits and '_', '}}'")]
    Placeholder,
    #[error("{{{0}}} stands here for the second time")]
    Twice(String),
    #[error("{{{0}}} is not in the pattern of the path; a key is made of what is")]
    NotInPath(String),
    #[error("'*' stands alone, as the last segment")]
    Star,
    #[error("a path may not contain {0:?}")]
    Character(char),
    #[error("a key that says nothing would send everything to one host")]
    EmptyKey,
    #[error("another pattern matches the same paths")]
    SamePaths,
    #[error("the router answers there itself, and forwards nothing")]
    Reserved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Placeholder(String),
}

/// How specific a list of segments is: the least comes first. More segments, then literals before
/// placeholders, then by name.
pub(crate) type Shape<'s> = (Reverse<usize>, Vec<(bool, &'s str)>);

/// Reads the segments of a pattern. `allowed` says whether there may be a placeholder of that name.
pub(crate) fn parse(pattern: &str, allowed: impl Fn(&str) -> Result<(), Fault>) -> Result<Vec<Segment>, PatternError> {
    let wrong = |at, fault| PatternError { pattern: pattern.to_owned(), at, fault };
    let inner = pattern.strip_prefix('/').ok_or_else(|| wrong(0, Fault::NoSlash))?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let mut segments = Vec::new();
    let mut at = 1;
    for text in inner.split('/').filter(|_| !inner.is_empty()) {
        let segment = segment(text).map_err(|(inside, fault)| wrong(at + inside, fault))?;
        if let Segment::Placeholder(name) = &segment {
            allowed(name).map_err(|fault| wrong(at, fault))?;
            if segments.contains(&segment) {
                return Err(wrong(at, Fault::Twice(name.clone())));
            }
        }
        segments.push(segment);
        at += text.len() + 1;
    }
    Ok(segments)
}

/// Matches a prefix of a raw path and gives back what follows: empty, or beginning with a slash. `found` is
/// told what stands at each placeholder, and may refuse it.
pub(crate) fn walk<'s, 'p>(
    segments: &'s [Segment],
    path: &'p str,
    mut found: impl FnMut(&'s str, &'p str) -> bool,
) -> Option<&'p str> {
    let mut rest = path;
    for segment in segments {
        let inner = rest.strip_prefix('/')?;
        let (head, tail) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        let fits = match segment {
            Segment::Literal(literal) => literal == head,
            Segment::Placeholder(name) => found(name, head),
        };
        if !fits {
            return None;
        }
        rest = tail;
    }
    Some(rest)
}

pub(crate) fn shape(segments: &[Segment]) -> Shape<'_> {
    let each = segments.iter().map(|segment| match segment {
        Segment::Literal(text) => (false, text.as_str()),
        Segment::Placeholder(_) => (true, ""),
    });
    (Reverse(segments.len()), each.collect())
}

/// Writes the segments as they are read; nothing when there are none.
pub(crate) fn write(segments: &[Segment], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    segments.iter().try_for_each(|segment| match segment {
        Segment::Literal(text) => write!(f, "/{text}"),
        Segment::Placeholder(name) => write!(f, "/{{{name}}}"),
    })
}

/// The name of a placeholder.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn segment(text: &str) -> Result<Segment, (usize, Fault)> {
    if matches!(text, "" | "." | "..") {
        return Err((0, Fault::Segment));
    }
    if let Some(at) = text.find(['{', '}']) {
        let name = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).filter(|name| is_name(name));
        return name.map(|name| Segment::Placeholder(name.to_owned())).ok_or((at, Fault::Placeholder));
    }
    let bad = text.char_indices().find(|(_, c)| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '%' | '\\'));
    match bad {
        Some((at, bad)) => Err((at, Fault::Character(bad))),
        None => Ok(Segment::Literal(text.to_owned())),
    }
}
