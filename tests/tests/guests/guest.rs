//! A versiond whose configuration names programs, and clients that ask one of them without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use supervisor_protocol::admin::{GenerationStatus, Phase, Status};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::node::{Node, slot};

/// Connections that ask at the same time.
const CLIENTS: usize = 8;

/// Where a program is installed. Missing is a failure, not a reason to skip.
pub(crate) fn program(name: &str, package: &str) -> String {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found =
        folders.iter().map(|folder| format!("{folder}/{name}")).find(|path| std::path::Path::new(path).exists());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// A program of the test tree.
pub(crate) fn own(name: &str) -> String {
    format!("{}/tests/guests/programs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A versiond that runs what `services` say, and nothing of a catalog.
pub(crate) fn node(services: &str) -> Node {
    node_with(services, "")
}

/// The same, with settings over those of every test.
pub(crate) fn node_with(services: &str, settings: &str) -> Node {
    let node = Node::new(settings);
    node.publish_text(r#"{"schema":1,"revision":1,"services":{}}"#);
    rewrite(&node, services);
    node.start();
    node
}

/// The same, without a catalog at all.
pub(crate) fn node_alone(services: &str) -> Node {
    let node = Node::new("");
    rewrite(&node, services);
    let mut all: toml::Table = std::fs::read_to_string(node.settings()).unwrap().parse().unwrap();
    all.remove("catalog");
    std::fs::write(node.settings(), all.to_string()).unwrap();
    node.start();
    node
}

/// Puts other services into the configuration, in place of all that stood there.
pub(crate) fn rewrite(node: &Node, services: &str) {
    let text = std::fs::read_to_string(node.settings()).unwrap();
    let mut all: toml::Table = text.parse().unwrap();
    all.remove("service");
    all.extend(services.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}: {services}")));
    let beside = node.folder().join("versiond.next");
    std::fs::write(&beside, all.to_string()).unwrap();
    std::fs::rename(beside, node.settings()).unwrap();
}

/// The only generation of a slot, once that serves and is another than `before`.
pub(crate) async fn settled(node: &Node, name: &str, before: Option<&GenerationStatus>) -> GenerationStatus {
    // Its admin socket may not be there yet.
    node.until_ready(|_| true).await;
    let only = |status: &Status| match &slot(status, name)?.generations[..] {
        [only] if only.phase == Phase::Serving => {
            (before.is_none_or(|before| before.generation != only.generation)).then(|| only.clone())
        }
        _ => None,
    };
    only(&node.until(|status| only(status).is_some()).await).unwrap()
}

/// Clients that ask for `path` without a pause, each over one kept connection, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Vec<String>, String>>>,
}

impl Load {
    pub(crate) fn start(node: &Node, path: &str) -> Load {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = || tokio::spawn(client(node.host, path.to_owned(), stop.clone(), asked.clone()));
        let clients = (0..CLIENTS).map(|_| client()).collect();
        Load { stop, asked, clients }
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn more(&self, count: u64) {
        let goal = self.asked.load(Ordering::Relaxed) + count;
        while self.asked.load(Ordering::Relaxed) < goal && !self.clients.iter().any(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every distinct body, when no request has failed.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut bodies = Vec::new();
        for client in self.clients {
            bodies.extend(client.await.unwrap().unwrap_or_else(|failed| panic!("a request failed: {failed}")));
        }
        bodies.sort();
        bodies.dedup();
        bodies
    }
}

async fn client(
    host: std::net::SocketAddr,
    path: String,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
) -> Result<Vec<String>, String> {
    let mut bodies = Vec::new();
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    while !stop.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(host).await.map_err(|error| failed(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, driver) = handshake.map_err(|error| failed(&error))?;
        tokio::spawn(driver);
        // The host may end a kept connection after an answer that says so.
        while !stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let request = ::http::Request::get(&path).header(::http::header::HOST, "guest.test");
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
            let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let status = answer.status();
            let closes = answer.headers().get(::http::header::CONNECTION).is_some_and(|value| value == "close");
            let body = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            if status != 200 {
                return Err(format!("{status}: {body}"));
            }
            asked.fetch_add(1, Ordering::Relaxed);
            if !bodies.contains(&body) {
                bodies.push(body);
            }
            if closes {
                break;
            }
        }
    }
    Ok(bodies)
}
