//! What a member is called, and where it is reached. The two never stand for each other, but where there is
//! no name: then the address is one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use supervisor_protocol::HostId;

/// Why a name or an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("an identity has 1 to 255 characters, this has {0}")]
    Length(usize),
    #[error("an identity may not contain {found:?} (at position {at})")]
    Character { found: char, at: usize },
    #[error("an address is `host:port`, {0:?} is not")]
    Address(String),
}

/// The identity of a member: what a host with versiond says of itself, else the name that the configuration
/// gives it, else its address. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberId(Arc<str>);

/// Where a member is reached: `10.0.0.1:8080`, `gpu-1:8080`, `[::1]:8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Arc<str>);

impl MemberId {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        if !(1..=255).contains(&text.len()) {
            return Err(IdentityError::Length(text.len()));
        }
        let bad = text.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic() || matches!(c, '=' | ',' | '"'));
        match bad {
            Some((at, found)) => Err(IdentityError::Character { found, at }),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Address {
    /// Checks the shape of an address. Whether a name resolves is not known here.
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.strip_prefix('[').map_or(!host.contains(':'), |host| host.ends_with(']'));
            bare && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if fits && MemberId::new(text).is_ok() {
            Ok(Self(text.into()))
        } else {
            Err(IdentityError::Address(text.to_owned()))
        }
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&HostId> for MemberId {
    fn from(id: &HostId) -> Self {
        Self(id.as_str().into())
    }
}

impl From<&Address> for MemberId {
    fn from(address: &Address) -> Self {
        Self(Arc::clone(&address.0))
    }
}

impl AsRef<str> for MemberId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdentityError;
            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdentityError;
            fn try_from(text: String) -> Result<Self, IdentityError> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0.as_ref().to_owned()
            }
        }
    };
}

text!(MemberId);
text!(Address);
