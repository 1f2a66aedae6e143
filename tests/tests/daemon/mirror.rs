//! A loopback server of a catalog document and of artifacts, whose answers can be held back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use versiond_demo::artifacts::sha256;

use crate::releases::{Build, Document, Release};

/// The server. It ends with this.
pub(crate) struct Mirror {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    /// `None`: the source is out of order.
    document: Mutex<Option<String>>,
    /// Documents of those that follow one of their own.
    own: Mutex<BTreeMap<String, String>>,
    artifacts: Mutex<BTreeMap<String, Bytes>>,
    /// Whether artifacts are given out.
    open: watch::Sender<bool>,
}

impl Mirror {
    /// A mirror without a document or artifacts, with its gate open.
    pub(crate) async fn start() -> Mirror {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (document, own, artifacts) = (Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { document, own, artifacts, open: watch::Sender::new(true) });
        let stop = CancellationToken::new();
        let accepting = accept(listener, Arc::clone(&shared), stop.clone());
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accepting).await });
        Mirror { address, shared, _stop: stop.drop_guard() }
    }

    /// The setting that makes versiond follow this mirror's document.
    pub(crate) fn as_source(&self) -> String {
        format!("[catalog]\nsource = \"http://{}/catalog.json\"\n", self.address)
    }

    /// Offers a build under an address of this mirror. Builds with different marks are different artifacts
    /// with the same program in them.
    pub(crate) fn offer(&self, build: Build, mark: &str) -> Release {
        let mut program = std::fs::read(build.program()).unwrap();
        // What follows the sections of an ELF file is not looked at.
        program.extend_from_slice(mark.as_bytes());
        self.offer_program(program)
    }

    /// Offers these bytes as an artifact.
    pub(crate) fn offer_program(&self, program: Vec<u8>) -> Release {
        let sha256 = sha256(&program).to_string();
        self.shared.artifacts.lock().insert(format!("/{sha256}"), program.into());
        Release { url: format!("http://{}/{sha256}", self.address), sha256 }
    }

    pub(crate) fn publish(&self, document: &Document) {
        *self.shared.document.lock() = Some(document.text());
    }

    /// The setting that makes versiond follow a document of its own on this mirror.
    pub(crate) fn as_source_of(&self, name: &str) -> String {
        format!("[catalog]\nsource = \"http://{}/own/{name}\"\n", self.address)
    }

    /// Publishes the document that only `name` follows.
    pub(crate) fn publish_to(&self, name: &str, document: &Document) {
        self.shared.own.lock().insert(format!("/own/{name}"), document.text());
    }

    /// From now on the document cannot be read.
    pub(crate) fn fail(&self) {
        *self.shared.document.lock() = None;
    }

    /// From now on a request for an artifact waits.
    pub(crate) fn close(&self) {
        self.shared.open.send_replace(false);
    }

    /// Artifacts are given out again, also to those that wait.
    pub(crate) fn open(&self) {
        self.shared.open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request.uri().path()).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // A connection that breaks is the reader's to notice.
            stop.run_until_cancelled(serving).await.map(Result::ok)
        });
    }
}

async fn answer(shared: &Shared, path: &str) -> Response<Full<Bytes>> {
    let body = if path == "/catalog.json" {
        shared.document.lock().clone().map(Bytes::from)
    } else if path.starts_with("/own/") {
        shared.own.lock().get(path).cloned().map(Bytes::from)
    } else {
        let artifact = shared.artifacts.lock().get(path).cloned();
        // An error says that the mirror is gone, and with it whoever waits.
        shared.open.subscribe().wait_for(|open| *open).await.ok();
        artifact
    };
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    response
}
