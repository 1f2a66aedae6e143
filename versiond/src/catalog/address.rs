//! Which addresses a fetch reaches: the rules of [`versiond_core::catalog`], asked again at each redirect
//! and of each address that a name stands for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};
use versiond_core::catalog::{Scope, UrlRefusal, UrlRules, is_local_name, is_loopback_url, scope};

/// More redirects than any mirror needs.
const REDIRECTS: usize = 5;

/// The way from a name to addresses.
pub(super) type Names = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Why a redirect was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RedirectError {
    #[error("more than {REDIRECTS} redirects")]
    TooMany,
    #[error("a redirect to an address that may not be used")]
    Refused(#[source] UrlRefusal),
    #[error("a redirect from elsewhere to this machine")]
    Inward,
}

/// Why a name was not connected to.
#[derive(Debug, thiserror::Error)]
enum NameRefused {
    #[error("{0} has no address")]
    Unknown(String),
    #[error("{name} stands for an address that may not be used")]
    Refused { name: String, source: UrlRefusal },
}

/// The names of the system.
pub(super) fn system_names() -> Names {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Judges each redirect like the first address.
pub(super) fn policy(rules: UrlRules) -> Policy {
    let follow = move |attempt: Attempt<'_>| -> Action {
        let judged = judge(attempt.previous(), attempt.url(), rules);
        match judged {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    };
    Policy::custom(follow)
}

fn judge(previous: &[Url], next: &Url, rules: UrlRules) -> Result<(), RedirectError> {
    if previous.len() > REDIRECTS {
        return Err(RedirectError::TooMany);
    }
    rules.check(next.as_str()).map_err(RedirectError::Refused)?;
    let from_here = previous.first().is_some_and(|first| is_loopback_url(first.as_str()));
    if is_loopback_url(next.as_str()) && !from_here { Err(RedirectError::Inward) } else { Ok(()) }
}

/// Names without the answers that no name may give: what is resolved here is what is connected to, so that
/// a second answer cannot differ from the one that was judged.
pub(super) struct Screened {
    pub(super) rules: UrlRules,
    pub(super) names: Names,
}

impl Resolve for Screened {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, name) = (self.rules, name.as_str().to_owned());
        let found = (self.names)(name.clone());
        Box::pin(async move {
            let kept = screen(rules, &name, found.await?)?;
            let kept: Vec<SocketAddr> = kept.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name that may be connected to. This machine has names of its own, and no other.
fn screen(rules: UrlRules, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, NameRefused> {
    let is_local = is_local_name(name);
    let rules = UrlRules { loopback: rules.loopback && is_local, ..rules };
    let mut refused = None;
    let mut admitted = Vec::new();
    for ip in found {
        match rules.admits(ip) {
            Ok(()) if is_local && scope(ip) != Scope::Loopback => refused = Some(UrlRefusal::Loopback),
            Ok(()) => admitted.push(ip),
            Err(refusal) => refused = Some(refusal),
        }
    }
    match (admitted.is_empty(), refused) {
        (false, _) => Ok(admitted),
        (true, Some(source)) => Err(NameRefused::Refused { name: name.to_owned(), source }),
        (true, None) => Err(NameRefused::Unknown(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::catalog::http::Client;
    use crate::config::chain;

    const OPEN: UrlRules = UrlRules { http: true, file: false, loopback: true, private: false };

    /// F70: a redirect that points inward, or downward to plain http.
    #[test]
    fn f70_each_redirect_is_judged_like_the_first_address() {
        let strict = UrlRules::default();
        let here = UrlRules { loopback: true, ..strict };
        let near = UrlRules { private: true, ..strict };
        let check = |from: &str, to: &str, rules| judge(&[from.parse().unwrap()], &to.parse().unwrap(), rules);
        assert_eq!(check("https://a.example/x", "https://b.example/y", strict), Ok(()));
        for inward in ["https://127.0.0.1/", "https://[::1]/", "https://localhost/", "https://0x7f000001/"] {
            let refused = Err(RedirectError::Refused(UrlRefusal::Loopback));
            assert_eq!(check("https://a.example/x", inward, strict), refused, "{inward}");
            assert_eq!(check("https://a.example/x", inward, here), Err(RedirectError::Inward), "{inward}");
            assert_eq!(check("https://127.0.0.1/x", inward, here), Ok(()), "{inward}");
        }
        for private in ["https://10.1.2.3/", "https://[fd00::1]/", "https://3232235777/", "https://[::ffff:10.0.0.1]/"]
        {
            let refused = Err(RedirectError::Refused(UrlRefusal::Private));
            assert_eq!(check("https://a.example/x", private, here), refused, "{private}");
            assert_eq!(check("https://a.example/x", private, near), Ok(()), "{private}");
        }
        for metadata in ["https://169.254.169.254/", "https://[fe80::1]/", "https://0.0.0.0/"] {
            for rules in [strict, here, near] {
                let refused = Err(RedirectError::Refused(UrlRefusal::Never));
                assert_eq!(check("https://127.0.0.1/x", metadata, rules), refused, "{metadata}");
            }
        }
        let plain = check("https://a.example/x", "http://b.example/y", here);
        assert_eq!(plain, Err(RedirectError::Refused(UrlRefusal::PlainHttp)));
        assert!(matches!(
            check("https://a.example/x", "file:///etc/passwd", here),
            Err(RedirectError::Refused(UrlRefusal::File))
        ));
        let many: Vec<Url> = (0..6).map(|_| "https://a.example/".parse().unwrap()).collect();
        assert_eq!(judge(&many, &many[0], strict), Err(RedirectError::TooMany));
        assert_eq!(judge(&many[..5], &many[0], strict), Ok(()));
    }

    #[test]
    fn f70_a_name_stands_for_no_inward_address() {
        let found = |name: &str, rules, found: &[&str]| {
            let found = found.iter().map(|ip| ip.parse().unwrap()).collect();
            screen(rules, name, found).map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>()).ok()
        };
        let one = |ip: &str| Some(vec![ip.to_owned()]);
        assert_eq!(found("a.example", OPEN, &["1.1.1.1"]), one("1.1.1.1"));
        assert_eq!(found("a.example", OPEN, &["127.0.0.1", "1.1.1.1", "10.0.0.1", "::ffff:127.0.0.1"]), one("1.1.1.1"));
        for inward in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0"] {
            assert_eq!(found("a.example", OPEN, &[inward]), None, "{inward}");
        }
        let near = UrlRules { private: true, ..OPEN };
        assert_eq!(found("a.example", near, &["10.0.0.1", "169.254.169.254"]), one("10.0.0.1"));
        assert_eq!(found("localhost", OPEN, &["127.0.0.1", "1.1.1.1"]), one("127.0.0.1"));
        assert_eq!(found("localhost", UrlRules::default(), &["127.0.0.1"]), None);
        assert_eq!(found("a.example", OPEN, &[]), None);
    }

    /// A host on loopback that counts who comes, and answers each with `answer`.
    async fn host(answer: String) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let mut head = [0u8; 2048];
                if socket.read(&mut head).await.is_ok() {
                    socket.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        (address, count)
    }

    fn client(rules: UrlRules, names: Names) -> Client {
        Client::with_names(rules, names, Duration::from_secs(60), Some(Duration::from_secs(60))).unwrap()
    }

    const SECRET: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nsecret";

    /// F70: a name that answers with a harmless address first and an inward one afterwards.
    #[tokio::test]
    async fn f70_a_name_that_turns_inward_is_not_connected_to_and_what_is_there_is_not_told() {
        let (address, came) = host(SECRET.to_owned()).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let names: Names = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
        });
        let client = client(OPEN, names);
        let url = format!("http://rebound.example:{}/latest", address.port());
        let error = client.get_all(&url, 100).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains("may only be named by") && !text.contains("secret"), "{text}");
        assert_eq!((came.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (0, 1));
        // The same host under its own name, where that is allowed.
        let here = client.get_all(&format!("http://localhost:{}/", address.port()), 100).await.unwrap();
        assert_eq!(here, b"secret");
    }

    #[tokio::test]
    async fn f70_a_redirect_from_here_stays_here_and_an_answer_that_is_refused_is_not_told() {
        let (inner, came) = host(SECRET.to_owned()).await;
        let moved = |to: String| {
            format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {to}\r\nContent-Length: 3\r\n\r\nold")
        };
        let (outer, _) = host(moved(format!("http://{inner}/"))).await;
        let client = client(OPEN, system_names());
        assert_eq!(client.get_all(&format!("http://{outer}/"), 100).await.unwrap(), b"secret");
        let (metadata, _) = host(moved("http://169.254.169.254/latest".to_owned())).await;
        let error = client.get_all(&format!("http://{metadata}/"), 100).await.unwrap_err();
        assert!(chain(&error).contains("never reached"), "{}", chain(&error));
        let (refusing, _) = host(SECRET.replace("200 OK", "403 Forbidden")).await;
        let text = chain(&client.get_all(&format!("http://{refusing}/"), 100).await.unwrap_err());
        assert!(text.contains("403") && !text.contains("secret"), "{text}");
        assert_eq!(came.load(Ordering::SeqCst), 1);
    }
}
