//! The metrics of the children: every live generation is asked at once, each within the same bound, so that one
//! that is slow or silent costs the others nothing (F37).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use supervisor_protocol::error::chain;
use supervisor_protocol::{Generation, SlotId};

use super::exposition::Merged;
use crate::ask::{ChildError, Line, Question, Stream, dial_port, dial_socket, is_absent};
use crate::process::Account;

/// How long a child may take. A reader of metrics waits ten seconds for all by custom.
const WITHIN: Duration = Duration::from_secs(1);
/// The largest text of one child, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// A child that may have metrics.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) source: Source,
}

/// Where a child gives its metrics.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Its admin socket, and whose that is when it is not versiond's own user's.
    Socket(PathBuf, Option<Account>),
    /// An older child, on the loopback port that it serves on.
    Port(u16),
}

/// What came of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scraped {
    Text(String),
    /// It has none, and says so.
    None,
    /// Silent, broken off, too long or no text.
    Failed(String),
}

/// What came of all of them.
pub(super) struct Children {
    pub(super) merged: Merged,
    /// Of each child that has metrics: whether they could be read.
    pub(super) up: Vec<(Subject, bool)>,
}

/// Asks all of them.
pub(super) async fn all(subjects: Vec<Subject>) -> Children {
    let texts = join_all(subjects.iter().map(|subject| async {
        tokio::time::timeout(WITHIN, ask(&subject.source))
            .await
            .unwrap_or_else(|_| Scraped::Failed("no answer in time".to_owned()))
    }));
    let (texts, mut merged, mut up) = (texts.await, Merged::default(), Vec::new());
    for (subject, scraped) in subjects.into_iter().zip(texts) {
        let read = match scraped {
            Scraped::None => continue,
            Scraped::Failed(why) => Err(why),
            Scraped::Text(text) => {
                let generation = subject.generation.0.to_string();
                let labels = [
                    ("service", subject.slot.service.as_str()),
                    ("version", subject.slot.name.as_str()),
                    ("generation", generation.as_str()),
                ];
                merged.add(&text, &labels).map_err(|error| error.to_string())
            }
        };
        if let Err(why) = &read {
            tracing::debug!(slot = %subject.slot, generation = %subject.generation, why, "no metrics of the child");
        }
        up.push((subject, read.is_ok()));
    }
    Children { merged, up }
}

async fn ask(source: &Source) -> Scraped {
    let question = Question { method: Method::GET, path: "/metrics", place: "its metrics", most: TEXT_MAX };
    match Line::Fresh.ask(&question, dial(source, question.place)).await {
        Ok((StatusCode::OK, body)) => match String::from_utf8(body.into()) {
            Ok(text) => Scraped::Text(text),
            Err(_) => Scraped::Failed("no text".to_owned()),
        },
        Ok((status, _)) if is_absent(status) => Scraped::None,
        Ok((status, _)) => Scraped::Failed(status.to_string()),
        // Its socket is not made yet, or there is none.
        Err(ChildError::Connect { source, .. }) if source.kind() == io::ErrorKind::NotFound => Scraped::None,
        Err(error) => Scraped::Failed(chain(&error)),
    }
}

async fn dial(source: &Source, place: &str) -> Result<Box<dyn Stream>, ChildError> {
    match source {
        Source::Socket(socket, account) => dial_socket(socket, account.as_ref(), place).await,
        Source::Port(port) => dial_port(*port, place).await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use std::net::Ipv4Addr;

    use nix::unistd::{Gid, Uid};
    use supervisor_protocol::{ServiceName, VersionName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    /// A child that answers what it is given, or takes the connection and says nothing.
    fn child(folder: &std::path::Path, generation: u64, answer: Option<String>) -> Subject {
        let socket = folder.join(format!("g{generation}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1024];
                assert!(stream.read(&mut asked).await.unwrap() > 0);
                match &answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    None => open.push(stream),
                }
            }
        });
        let slot = SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1").unwrap() };
        Subject { slot, generation: Generation(generation), source: Source::Socket(socket, None) }
    }

    fn ok(text: &str) -> Option<String> {
        Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()))
    }

    #[tokio::test]
    async fn f37_a_silent_child_and_one_that_talks_nonsense_cost_the_others_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let subjects = vec![
            child(folder.path(), 1, ok("jobs 1\n")),
            child(folder.path(), 2, None),
            child(folder.path(), 3, ok("no metrics\n")),
            child(folder.path(), 4, Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned())),
            child(folder.path(), 5, ok("jobs 5\n")),
            child(folder.path(), 6, ok(&"x".repeat(TEXT_MAX + 1))),
        ];
        let children = all(subjects).await;
        let up: Vec<(u64, bool)> = children.up.iter().map(|(subject, up)| (subject.generation.0, *up)).collect();
        // The one without metrics is not missed.
        assert_eq!(up, [(1, true), (2, false), (3, false), (5, true), (6, false)]);
        let mut text = String::new();
        children.merged.render(&mut text);
        for generation in [1, 5] {
            let series = format!("jobs{{service=\"demo\",version=\"v1\",generation=\"{generation}\"}} {generation}\n");
            assert!(text.contains(&series), "{text}");
        }
    }

    /// F42: a child's socket is its own user's, and is connected to as that user, as its probes are.
    #[tokio::test]
    async fn f42_a_child_with_a_user_is_asked_as_that_user() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let account = Account::new(Uid::from_raw(61_234), Gid::from_raw(61_234), []);
        // Of one that is not that user's, so that it shows who connects.
        let subjects = [(1, 61_234), (2, 61_235)].map(|(generation, owner)| {
            let subject = child(folder.path(), generation, ok("jobs 1\n"));
            let Source::Socket(socket, None) = &subject.source else { panic!("{subject:?}") };
            std::os::unix::fs::chown(socket, Some(owner), None).unwrap();
            std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).unwrap();
            Subject { source: Source::Socket(socket.clone(), Some(account.clone())), ..subject.clone() }
        });
        let children = all(subjects.into()).await;
        let up: Vec<(u64, bool)> = children.up.iter().map(|(subject, up)| (subject.generation.0, *up)).collect();
        assert_eq!(up, [(1, true), (2, false)]);
    }

    /// One that has not made its socket yet is not missed; one that serves nothing where it should be is.
    #[tokio::test]
    async fn a_socket_that_is_not_there_yet_is_none_and_a_port_that_refuses_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let of = |generation, source| Subject { source, ..child(folder.path(), generation, None) };
        let subjects = vec![of(1, Source::Socket(folder.path().join("none.sock"), None)), of(2, Source::Port(free))];
        let children = all(subjects).await;
        let up: Vec<(u64, bool)> = children.up.iter().map(|(subject, up)| (subject.generation.0, *up)).collect();
        assert_eq!(up, [(2, false)]);
    }
}
