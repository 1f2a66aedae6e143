//! Which addresses a catalog may name. A first look by the text alone, so that an entry that cannot
//! work blocks its slot at once; whoever connects looks again, at the parsed address and at every
//! redirect.

/// Which schemes may be used besides `https:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrlRules {
    /// `http:` to anywhere, not only to this machine.
    pub http: bool,
    /// `file:`, which only a catalog that is itself a local file may name.
    pub file: bool,
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
}

impl UrlRules {
    /// Judges one address by its text.
    pub fn check(self, url: &str) -> Result<(), UrlRefusal> {
        let (scheme, rest) = url.split_once(':').ok_or(UrlRefusal::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "https" => host(rest).map(drop),
            "http" if self.http || is_loopback(host(rest)?) => host(rest).map(drop),
            "http" => Err(UrlRefusal::PlainHttp),
            "file" if self.file => Ok(()),
            "file" => Err(UrlRefusal::File),
            _ => Err(UrlRefusal::Scheme(scheme.chars().take(32).collect())),
        }
    }
}

/// Whether a host, as an address writes it, is this machine.
#[must_use]
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
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
