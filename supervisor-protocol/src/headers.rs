//! The headers that supervisor, child and router exchange, and their grammar. All of them are
//! stripped towards clients.

use std::fmt;
use std::str::FromStr;

use crate::names::{BootNonce, HostId, NameError, Nonce};

/// On a 503: the request was refused before any work. See [`NotAdmitted`].
pub const NOT_ADMITTED: &str = "versiond-not-admitted";
/// On every response of a host to a router. See [`HostStamp`].
pub const HOST: &str = "versiond-host";
/// On a request that must be admitted, since every other choice has refused. Value `1`.
pub const LAST_RESORT: &str = "versiond-last-resort";

/// Why a header value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("expected `<{0}>; {1}=<nonce>`")]
    Shape(&'static str, &'static str),
    #[error("a reason is made of lower-case letters, digits and '_'")]
    Reason,
    #[error("the {0} is malformed")]
    Name(&'static str, #[source] NameError),
}

/// The value of [`NOT_ADMITTED`]: `<reason>; nonce=<nonce>`. The nonce is the generation's towards
/// versiond, and versiond's boot nonce towards a router: nobody else's word is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    /// A reason code, e.g. `draining`.
    pub reason: String,
    pub nonce: Nonce,
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; nonce={}", self.reason, self.nonce)
    }
}

impl FromStr for NotAdmitted {
    type Err = HeaderError;

    fn from_str(value: &str) -> Result<Self, HeaderError> {
        let (reason, nonce) = split(value, "reason", "nonce")?;
        if reason.is_empty() || !reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err(HeaderError::Reason);
        }
        let nonce = Nonce::new(nonce).map_err(|source| HeaderError::Name("nonce", source))?;
        Ok(Self { reason: reason.to_owned(), nonce })
    }
}

/// The value of [`HOST`]: `<host id>; boot=<boot nonce>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStamp {
    pub id: HostId,
    pub boot: BootNonce,
}

impl fmt::Display for HostStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; boot={}", self.id, self.boot)
    }
}

impl FromStr for HostStamp {
    type Err = HeaderError;

    fn from_str(value: &str) -> Result<Self, HeaderError> {
        let (id, boot) = split(value, "host id", "boot")?;
        Ok(Self {
            id: HostId::new(id).map_err(|source| HeaderError::Name("host id", source))?,
            boot: BootNonce::new(boot).map_err(|source| HeaderError::Name("boot nonce", source))?,
        })
    }
}

fn split<'v>(value: &'v str, first: &'static str, key: &'static str) -> Result<(&'v str, &'v str), HeaderError> {
    let shape = HeaderError::Shape(first, key);
    let (head, tail) = value.split_once(';').ok_or_else(|| shape.clone())?;
    let nonce = tail.trim().strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).ok_or(shape)?;
    Ok((head.trim(), nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_as_they_were_written() {
        let refusal: NotAdmitted = "draining; nonce=abc123".parse().unwrap();
        assert_eq!(refusal.reason, "draining");
        assert_eq!(refusal.to_string().parse(), Ok(refusal));
        let stamp: HostStamp = "gpu-07; boot=00ff".parse().unwrap();
        assert_eq!(stamp.to_string(), "gpu-07; boot=00ff");
    }

    #[test]
    fn anything_else_is_refused() {
        for value in
            ["", "draining", "draining; nonce", "draining; nonce=", "Draining; nonce=a", "a b; nonce=x", "; nonce=a"]
        {
            assert!(value.parse::<NotAdmitted>().is_err(), "{value:?}");
        }
        assert!("gpu 7; boot=1".parse::<HostStamp>().is_err());
    }
}
