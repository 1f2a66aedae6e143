//! The one way in which bytes are fetched: https, or http where that is allowed. Which addresses are reached
//! is judged in [`super::address`], at every step of the way.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use versiond_core::catalog::{UrlRefusal, UrlRules};

use super::address::{Names, Screened, policy};

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
    Status(StatusCode),
    #[error("more than {cap} bytes")]
    TooLarge { cap: u64 },
    #[error("fewer than {bytes} bytes came within {within:?}")]
    Slow { bytes: u64, within: Duration },
    #[error("the file cannot be read")]
    File(#[source] std::io::Error),
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
    pub(crate) fn new(rules: UrlRules, silence: Duration, whole: Option<Duration>) -> Result<Self, FetchError> {
        Self::with_names(rules, super::address::system_names(), silence, whole)
    }

    /// The same with another way from names to addresses.
    pub(super) fn with_names(
        rules: UrlRules,
        names: Names,
        silence: Duration,
        whole: Option<Duration>,
    ) -> Result<Self, FetchError> {
        super::install_tls();
        let rules = UrlRules { file: false, ..rules };
        let builder = reqwest::Client::builder()
            .user_agent(concat!("versiond/", env!("CARGO_PKG_VERSION")))
            .redirect(policy(rules))
            .dns_resolver(Arc::new(Screened { rules, names }))
            // A proxy would connect to addresses that nobody here has judged.
            .no_proxy()
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
        let response = self.begin(url, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            other => Err(FetchError::Status(other)),
        }
    }

    /// The same for what comes behind the first `from` bytes, as long as the resource is still the one that
    /// `validator` names. The answer is 206, 200 when it is the whole all the same, or 416.
    pub(crate) async fn get_from(
        &self,
        url: &str,
        from: u64,
        validator: Option<&str>,
    ) -> Result<reqwest::Response, FetchError> {
        let range = (header::RANGE, format!("bytes={from}-"));
        let validator = validator.map(|validator| (header::IF_RANGE, validator.to_owned()));
        // A validator that came as a header goes back as one.
        let given = std::iter::once(range).chain(validator);
        let headers = given.filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect();
        let response = self.begin(url, headers).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            other => Err(FetchError::Status(other)),
        }
    }

    async fn begin(&self, url: &str, headers: HeaderMap) -> Result<reqwest::Response, FetchError> {
        let parsed: Url = url.parse().map_err(|_| FetchError::Address(shown(url)))?;
        self.rules.check(parsed.as_str()).map_err(FetchError::Refused)?;
        self.client.get(parsed).headers(headers).send().await.map_err(exchange)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_no_credentials() {
        assert_eq!(shown("https://user:pw@a.example/x?sig=1#f"), "https://a.example/x");
        assert_eq!(shown("https://a.example/x"), "https://a.example/x");
    }
}
