//! Newtypes for the things that have names. A value of one of these types is valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {what} may not be empty")]
    Empty { what: &'static str },
    #[error("a {what} has at most {max} characters, this has {len}")]
    TooLong { what: &'static str, max: usize, len: usize },
    #[error("a {what} may not contain {found:?} (at position {at}); allowed: {allowed}")]
    Character { what: &'static str, found: char, at: usize, allowed: &'static str },
    #[error("a SHA-256 is 64 hexadecimal digits, this is {len} characters")]
    Sha256Length { len: usize },
    #[error("a SHA-256 is 64 hexadecimal digits, {found:?} at position {at} is none")]
    Sha256Digit { found: char, at: usize },
}

struct Grammar {
    what: &'static str,
    max: usize,
    allowed: &'static str,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
}

impl Grammar {
    fn check(&self, text: &str) -> Result<(), NameError> {
        let Grammar { what, max, allowed, .. } = *self;
        if text.is_empty() {
            return Err(NameError::Empty { what });
        }
        for (at, found) in text.chars().enumerate() {
            let fits = if at == 0 { (self.first)(found) } else { (self.rest)(found) };
            if !fits {
                return Err(NameError::Character { what, found, at, allowed });
            }
        }
        if text.len() > max {
            return Err(NameError::TooLong { what, max, len: text.len() });
        }
        Ok(())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $grammar:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the grammar of the name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                const GRAMMAR: Grammar = $grammar;
                let text = text.into();
                GRAMMAR.check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name!(
    /// A kind of child, as the configuration and the catalog name it: `devshardd`.
    ServiceName,
    Grammar {
        what: "service name",
        max: 48,
        allowed: "a letter or digit, then letters, digits, '-' and '_'",
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
    }
);
name!(
    /// A routed version of a service: `v0.2.13`. The grammar is the one that upstream catalogs use.
    VersionName,
    Grammar {
        what: "version name",
        max: 128,
        allowed: "a letter or digit, then letters, digits and . _ + ~ -",
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '~' | '-'),
    }
);
name!(
    /// The identity of a host, independent of its address.
    HostId,
    Grammar {
        what: "host id",
        max: 64,
        allowed: "a letter or digit, then letters, digits and . _ -",
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
    }
);
name!(
    /// What tells one generation's process from every other process on the machine.
    Nonce,
    Grammar {
        what: "nonce",
        max: 64,
        allowed: "letters and digits",
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric(),
    }
);
name!(
    /// What tells one run of a supervisor from the next.
    BootNonce,
    Grammar {
        what: "boot nonce",
        max: 64,
        allowed: "letters and digits",
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric(),
    }
);

impl VersionName {
    /// Names that a first path segment may not carry, in any case: they are the host's own paths.
    pub const RESERVED: [&'static str; 12] = [
        "healthz", "readyz", "livez", "ready", "drain", "metrics", "stats", "sessions", "internal", "devshard", "v1",
        "admin",
    ];

    /// Whether the name collides with one of the host's own paths.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        Self::RESERVED.iter().any(|name| self.0.eq_ignore_ascii_case(name))
    }
}

/// One life of a release in a slot. Numbered over the whole host, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// One routed name of a service: a version where the route holds `{version}`, else the service itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotId {
    pub service: ServiceName,
    pub name: VersionName,
}

/// Why a text names no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotIdError {
    #[error("{0:?}: expected SERVICE/VERSION")]
    Shape(String),
    #[error("{text:?}")]
    Name { text: String, source: NameError },
}

impl FromStr for SlotId {
    type Err = SlotIdError;

    /// Reads `SERVICE/VERSION`, as every table shows it.
    fn from_str(text: &str) -> Result<SlotId, SlotIdError> {
        let (service, name) = text.split_once('/').ok_or_else(|| SlotIdError::Shape(text.to_owned()))?;
        let named = |source| SlotIdError::Name { text: text.to_owned(), source };
        Ok(SlotId { service: ServiceName::new(service).map_err(named)?, name: VersionName::new(name).map_err(named)? })
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}

/// The identity of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
            return Err(NameError::Sha256Digit { found, at });
        }
        if text.len() != 64 {
            return Err(NameError::Sha256Length { len: text.len() });
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = pair.iter().filter_map(|c| char::from(*c).to_digit(16));
            *byte = digits.fold(0, |value, digit| (value << 4) | u8::try_from(digit).unwrap_or_default());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_as_it_was_written_and_in_either_case() {
        let text = "00ff10a5".repeat(8);
        let hash: Sha256 = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<Sha256>().unwrap(), hash);
        assert_eq!(hash.0[1], 0xff);
    }

    #[test]
    fn a_refused_name_says_what_and_where() {
        let at = |text: &str| VersionName::new(text).unwrap_err().to_string();
        assert!(at("v1/../x").contains("'/' (at position 2)"), "{}", at("v1/../x"));
        assert!(at("").contains("empty"));
        assert!(at(".hidden").contains("position 0"));
        assert!(at(&"v".repeat(129)).contains("at most 128"));
        assert!("abc".parse::<Sha256>().unwrap_err().to_string().contains("3 characters"));
        assert!("x".repeat(64).parse::<Sha256>().unwrap_err().to_string().contains("'x' at position 0"));
    }

    #[test]
    fn reserved_names_are_reserved_in_any_case() {
        assert!(VersionName::new("HealthZ").unwrap().is_reserved());
        assert!(!VersionName::new("v1.0").unwrap().is_reserved());
    }
}
