//! Which addresses a catalog may name. A first look by the text alone, so that an entry that cannot
//! work blocks its slot at once; whoever connects looks again, at the parsed address, at what a name
//! stands for, and at every redirect.

use std::net::IpAddr;

use super::address::{Scope, scope};

/// What may be reached besides `https:` in the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrlRules {
    /// `http:` to anywhere, not only to this machine.
    pub http: bool,
    /// `file:`, which only a catalog that is itself a local file may name.
    pub file: bool,
    /// This machine, which only a catalog that comes from it may name.
    pub loopback: bool,
    /// Addresses of private networks.
    pub private: bool,
}

/// Why an address may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    #[error("no scheme; expected https://…")]
    NoScheme,
    #[error("the scheme {0:?} is not supported")]
    Scheme(String),
    #[error("http: reaches only this machine unless allow_http is set")]
    PlainHttp,
    #[error("file: may only be named by a catalog that is a local file")]
    File,
    #[error("no host")]
    NoHost,
    #[error("this machine may only be named by a catalog that comes from it")]
    Loopback,
    #[error("an address of a private network needs allow_private")]
    Private,
    #[error("link-local, metadata and unassigned addresses are never reached")]
    Never,
}

impl UrlRules {
    /// Judges one address by its text.
    pub fn check(self, url: &str) -> Result<(), UrlRefusal> {
        let (scheme, rest) = url.split_once(':').ok_or(UrlRefusal::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "https" => self.host(host(rest)?),
            "http" => {
                let host = host(rest)?;
                if self.http || is_this_machine(host) { self.host(host) } else { Err(UrlRefusal::PlainHttp) }
            }
            "file" if self.file => Ok(()),
            "file" => Err(UrlRefusal::File),
            _ => Err(UrlRefusal::Scheme(scheme.chars().take(32).collect())),
        }
    }

    /// Judges an address that is about to be connected to.
    pub fn admits(self, ip: IpAddr) -> Result<(), UrlRefusal> {
        match scope(ip) {
            Scope::Public => Ok(()),
            Scope::Loopback if self.loopback => Ok(()),
            Scope::Loopback => Err(UrlRefusal::Loopback),
            Scope::Private if self.private => Ok(()),
            Scope::Private => Err(UrlRefusal::Private),
            Scope::Never => Err(UrlRefusal::Never),
        }
    }

    fn host(self, host: &str) -> Result<(), UrlRefusal> {
        match ip(host) {
            Some(ip) => self.admits(ip),
            None if is_local_name(host) && !self.loopback => Err(UrlRefusal::Loopback),
            None => Ok(()),
        }
    }
}

/// Whether the host of an address is, by its text, this machine.
#[must_use]
pub fn is_loopback_url(url: &str) -> bool {
    url.split_once(':').and_then(|(_, rest)| host(rest).ok()).is_some_and(is_this_machine)
}

/// Whether a name stands for this machine wherever it is asked.
#[must_use]
pub fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_this_machine(host: &str) -> bool {
    is_local_name(host) || ip(host).is_some_and(|ip| scope(ip) == Scope::Loopback)
}

fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// The host in `//user@host:port/path`.
fn host(rest: &str) -> Result<&str, UrlRefusal> {
    let rest = rest.strip_prefix("//").ok_or(UrlRefusal::NoHost)?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => host_port,
    };
    if host.is_empty() { Err(UrlRefusal::NoHost) } else { Ok(host) }
}
