//! What is taken from, and added to, the headers that pass through.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use supervisor_protocol::headers::LAST_RESORT;

use crate::client::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Believed only from a trusted peer, and stamped by configuration.
const DEVSHARD_HA: HeaderName = HeaderName::from_static("devshard-ha");
/// The family of headers that host, router and child exchange.
const OWN_PREFIX: &str = "versiond-";

/// Prepares a client's headers for a child. `upgrade`: the request asks for another protocol.
pub(crate) fn to_child(headers: &mut HeaderMap, peer: &Peer, upgrade: bool) {
    let protocol = upgrade.then(|| headers.get(header::UPGRADE).cloned()).flatten();
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    remove_own(headers, peer.trusted);
    if !peer.trusted {
        headers.remove(DEVSHARD_HA);
    }
    forwarded(headers, peer);
}

/// Prepares a child's headers for a client.
pub(crate) fn to_client(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = upgrade.then(|| headers.get(header::UPGRADE).cloned()).flatten();
    remove_hop_by_hop(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    remove_own(headers, false);
}

/// RFC 9110, 7.6.1.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| HeaderName::try_from(token.trim()).ok())
            // A sender may not take back what the message needs.
            .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

fn remove_own(headers: &mut HeaderMap, keep_last_resort: bool) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OWN_PREFIX) && !(keep_last_resort && name.as_str() == LAST_RESORT))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

fn forwarded(headers: &mut HeaderMap, peer: &Peer) {
    let Peer { address, trusted, secure } = *peer;
    let address = address.ip().to_canonical();
    let proto = if secure { "https" } else { "http" };
    let host = headers.get(header::HOST).cloned();
    let element = {
        let node = if address.is_ipv6() { format!("for=\"[{address}]\"") } else { format!("for={address}") };
        match host.as_ref().and_then(|host| host.to_str().ok()) {
            Some(host) => format!("{node};host=\"{host}\";proto={proto}"),
            None => format!("{node};proto={proto}"),
        }
    };
    let text = address.to_string();
    append(headers, X_FORWARDED_FOR, &text, trusted);
    append(headers, header::FORWARDED, &element, trusted);
    let keep = |headers: &HeaderMap, name: &HeaderName| trusted && headers.contains_key(name);
    if !keep(headers, &X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !keep(headers, &X_REAL_IP)
        && let Ok(value) = HeaderValue::try_from(text)
    {
        headers.insert(X_REAL_IP, value);
    }
    if !keep(headers, &X_FORWARDED_HOST) {
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

/// Adds to the list a trusted peer has begun; begins it anew for any other.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str, trusted: bool) {
    let mut list = String::new();
    if trusted {
        for value in headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()) {
            list.push_str(value);
            list.push_str(", ");
        }
    }
    list.push_str(element);
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::try_from(*k).unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn peer(trusted: bool) -> Peer {
        Peer { address: "203.0.113.7:1".parse().unwrap(), trusted, secure: false }
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_so_do_those_they_name() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, x-secret, host, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ]);
        to_child(&mut headers, &peer(false), false);
        for gone in ["connection", "x-secret", "keep-alive", "te", "upgrade", "expect"] {
            assert_eq!(text(&headers, gone), None, "{gone}");
        }
        assert_eq!(text(&headers, "x-kept"), Some("1"));
        assert_eq!(text(&headers, "content-length"), Some("3"));
        assert_eq!(text(&headers, "host"), Some("a"));
    }

    #[test]
    fn a_strange_peer_is_not_believed_and_a_trusted_one_is_continued() {
        let sent = [
            ("host", "a:80"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "1.1.1.1"),
            ("devshard-ha", "1"),
            ("versiond-last-resort", "1"),
            ("versiond-host", "x; boot=1"),
        ];
        let mut strange = map(&sent);
        to_child(&mut strange, &peer(false), false);
        assert_eq!(text(&strange, "x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(text(&strange, "x-forwarded-proto"), Some("http"));
        assert_eq!(text(&strange, "x-real-ip"), Some("203.0.113.7"));
        assert_eq!(text(&strange, "forwarded"), Some("for=203.0.113.7;host=\"a:80\";proto=http"));
        assert_eq!(text(&strange, "devshard-ha"), None);
        assert_eq!(text(&strange, "versiond-last-resort"), None);

        let mut trusted = map(&sent);
        to_child(&mut trusted, &peer(true), false);
        assert_eq!(text(&trusted, "x-forwarded-for"), Some("1.1.1.1, 203.0.113.7"));
        assert_eq!(text(&trusted, "x-forwarded-proto"), Some("https"));
        assert_eq!(text(&trusted, "x-real-ip"), Some("1.1.1.1"));
        assert_eq!(text(&trusted, "devshard-ha"), Some("1"));
        assert_eq!(text(&trusted, "versiond-last-resort"), Some("1"));
        assert_eq!(text(&trusted, "versiond-host"), None);
    }

    #[test]
    fn an_upgrade_keeps_its_protocol_and_a_response_none_of_ours() {
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        to_child(&mut headers, &peer(false), true);
        assert_eq!((text(&headers, "connection"), text(&headers, "upgrade")), (Some("upgrade"), Some("websocket")));
        let mut headers = map(&[("versiond-not-admitted", "x; nonce=1"), ("connection", "close"), ("x-a", "1")]);
        to_client(&mut headers, false);
        assert_eq!(headers, map(&[("x-a", "1")]));
    }
}
