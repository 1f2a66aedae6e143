//! The one way in which bytes are fetched: https, or http where that is allowed, with the same rule at
//! each redirect, and never to an address that only this machine's network position reaches.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use versiond_core::catalog::{UrlRefusal, UrlRules};

/// More redirects than any mirror needs.
const REDIRECTS: usize = 5;

/// Why bytes could not be fetched. Never holds what a host answered, nor the query of an address,
/// which may be a signature.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    #[error("{0} is no address")]
    Address(String),
    #[error("the address may not be used")]
    Refused(#[source] UrlRefusal),
    #[error("the exchange failed")]
    Exchange(#[source] reqwest::Error),
    #[error("the answer was {0}")]
    Status(reqwest::StatusCode),
    #[error("more than {cap} bytes")]
    TooLarge { cap: u64 },
    #[error("fewer than {bytes} bytes came within {within:?}")]
    Slow { bytes: u64, within: Duration },
}

/// Why a redirect was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RedirectError {
    #[error("more than {REDIRECTS} redirects")]
    TooMany,
    #[error("a redirect to an address that may not be used")]
    Refused(#[source] UrlRefusal),
    #[error("a redirect from outside to an address of this machine or its network")]
    Inward,
}

/// A client with the rules built in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    rules: UrlRules,
}

impl Client {
    /// `silence` is how long a connection may be without a byte, `whole` bounds an exchange from start
    /// to end.
    pub(crate) fn new(allow_http: bool, silence: Duration, whole: Option<Duration>) -> Result<Self, FetchError> {
        super::install_tls();
        let rules = UrlRules { http: allow_http, file: false };
        let builder = reqwest::Client::builder()
            .user_agent(concat!("versiond/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(move |attempt| follow(attempt, rules)))
            .dns_resolver(Arc::new(Screened))
            .referer(false)
            .connect_timeout(silence)
            .read_timeout(silence);
        let builder = match whole {
            Some(whole) => builder.timeout(whole),
            None => builder,
        };
        Ok(Self { client: builder.build().map_err(FetchError::Client)?, rules })
    }

    /// Begins an exchange: the answer is 200, its body still to come.
    pub(crate) async fn get(&self, url: &str) -> Result<reqwest::Response, FetchError> {
        let parsed: Url = url.parse().map_err(|_| FetchError::Address(shown(url)))?;
        self.rules.check(parsed.as_str()).map_err(FetchError::Refused)?;
        if ip_of(&parsed).is_some_and(is_never) {
            return Err(FetchError::Refused(UrlRefusal::NoHost));
        }
        let response = self.client.get(parsed).send().await.map_err(exchange)?;
        match response.status() {
            reqwest::StatusCode::OK => Ok(response),
            other => Err(FetchError::Status(other)),
        }
    }

    /// A whole small body.
    pub(crate) async fn get_all(&self, url: &str, cap: u64) -> Result<Vec<u8>, FetchError> {
        let mut response = self.get(url).await?;
        if response.content_length().is_some_and(|length| length > cap) {
            return Err(FetchError::TooLarge { cap });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(exchange)? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > cap {
                return Err(FetchError::TooLarge { cap });
            }
        }
        Ok(body)
    }
}

/// The error of an exchange, without its address.
pub(crate) fn exchange(error: reqwest::Error) -> FetchError {
    FetchError::Exchange(error.without_url())
}

/// An address without its query and credentials, for a message.
pub(crate) fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match (bare.split_once("://"), bare.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (_, None) | (None, Some(_)) => bare.to_owned(),
    }
}

fn follow(attempt: Attempt<'_>, rules: UrlRules) -> reqwest::redirect::Action {
    let judged = judge(attempt.previous(), attempt.url(), rules);
    match judged {
        Ok(()) => attempt.follow(),
        Err(error) => attempt.error(error),
    }
}

fn judge(previous: &[Url], next: &Url, rules: UrlRules) -> Result<(), RedirectError> {
    if previous.len() > REDIRECTS {
        return Err(RedirectError::TooMany);
    }
    rules.check(next.as_str()).map_err(RedirectError::Refused)?;
    let from_inside = previous.first().is_some_and(is_inside);
    if ip_of(next).is_some_and(is_never) || (is_inside(next) && !from_inside) {
        return Err(RedirectError::Inward);
    }
    Ok(())
}

fn ip_of(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Whether an address, by its text, belongs to this machine or a private network.
fn is_inside(url: &Url) -> bool {
    match ip_of(url) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        None => url.host_str().is_some_and(is_local_name),
    }
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Addresses from which no catalog or artifact comes: metadata services among them.
fn is_never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

/// The system's names, without answers that point where no name should: what is resolved here is what
/// is connected to, so that a second answer cannot differ from the one that was judged.
struct Screened;

impl Resolve for Screened {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let local = is_local_name(&host);
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let kept: Vec<SocketAddr> = found
                .filter(|address| {
                    let ip = address.ip().to_canonical();
                    !is_never(ip) && (local || !ip.is_loopback())
                })
                .collect();
            if kept.is_empty() {
                return Err(format!("{host} has no usable address").into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F70: a redirect that points inward, or downward to plain http.
    #[test]
    fn f70_each_redirect_is_judged_like_the_first_address() {
        let strict = UrlRules::default();
        let check = |from: &str, to: &str| judge(&[from.parse().unwrap()], &to.parse().unwrap(), strict);
        assert_eq!(check("https://a.example/x", "https://b.example/y"), Ok(()));
        for inward in
            ["https://127.0.0.1/", "https://10.1.2.3/", "https://[::1]/", "https://localhost/", "https://[fd00::1]/"]
        {
            assert_eq!(check("https://a.example/x", inward), Err(RedirectError::Inward), "{inward}");
        }
        for metadata in ["https://169.254.169.254/", "https://[fe80::1]/", "https://0.0.0.0/"] {
            assert_eq!(check("https://a.example/x", metadata), Err(RedirectError::Inward), "{metadata}");
            assert_eq!(check("https://127.0.0.1/x", metadata), Err(RedirectError::Inward), "{metadata}");
        }
        assert_eq!(
            check("https://a.example/x", "http://b.example/y"),
            Err(RedirectError::Refused(UrlRefusal::PlainHttp))
        );
        assert_eq!(check("http://127.0.0.1:1/x", "http://127.0.0.1:2/y"), Ok(()));
        assert!(matches!(check("https://a.example/x", "file:///etc/passwd"), Err(RedirectError::Refused(_))));
        let many: Vec<Url> = (0..6).map(|_| "https://a.example/".parse().unwrap()).collect();
        assert_eq!(judge(&many, &many[0], strict), Err(RedirectError::TooMany));
        assert_eq!(judge(&many[..5], &many[0], strict), Ok(()));
    }

    #[test]
    fn messages_carry_no_credentials() {
        assert_eq!(shown("https://user:pw@a.example/x?sig=1#f"), "https://a.example/x");
        assert_eq!(shown("https://a.example/x"), "https://a.example/x");
    }
}
