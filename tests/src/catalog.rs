//! The catalog server: one JSON document with a revision, and the archives that it names, over loopback HTTP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use supervisor_protocol::Sha256;
use tokio::net::TcpListener;

use crate::artifacts::{Artifact, Artifacts, ENTRY, sha256};
use crate::scenario::{Build, Change, Revision, Slot};
use crate::world::World;

/// The service's name in the catalog and the configuration.
pub const SERVICE: &str = "demo";

/// What the document says of one slot.
#[derive(Debug, Clone)]
struct Release {
    /// The last part of its URL.
    file: String,
    size: usize,
    sha256: Sha256,
}

impl Release {
    fn honest(artifact: &Artifact) -> Self {
        Self { file: artifact.file.to_owned(), size: artifact.bytes.len(), sha256: artifact.sha256 }
    }

    /// The release of a revision, which no other has.
    fn of(artifact: &Artifact, revision: u64) -> Self {
        let bytes = artifact.released(revision);
        Self { file: format!("{revision}/{}", artifact.file), size: bytes.len(), sha256: sha256(&bytes) }
    }
}

#[derive(Debug)]
struct Document {
    revision: u64,
    releases: BTreeMap<Slot, Release>,
}

/// The catalog, shared between the server and the conductor.
#[derive(Debug)]
pub struct Catalog {
    address: SocketAddr,
    artifacts: Artifacts,
    document: Mutex<Document>,
    world: Arc<World>,
}

impl Catalog {
    /// A catalog of the first builds at revision 1, served from `listener` until the world stops.
    pub fn serve(
        listener: TcpListener,
        artifacts: Artifacts,
        first: &[Build],
        world: Arc<World>,
    ) -> anyhow::Result<Arc<Self>> {
        let release = |build: &Build| Release::honest(artifacts.of(*build));
        let releases = first.iter().enumerate().map(|(at, build)| (Slot(at), release(build))).collect();
        let document = Mutex::new(Document { revision: 1, releases });
        let catalog = Arc::new(Self { address: listener.local_addr()?, artifacts, document, world });
        tokio::spawn(accept(Arc::clone(&catalog), listener));
        Ok(catalog)
    }

    /// Where versiond reads the document.
    #[must_use]
    pub fn source(&self) -> String {
        format!("http://{}/catalog.json", self.address)
    }

    /// The revision in force.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.document.lock().revision
    }

    /// The hash that the document names for a slot.
    #[must_use]
    pub fn wanted(&self, slot: Slot) -> Option<Sha256> {
        self.document.lock().releases.get(&slot).map(|release| release.sha256)
    }

    /// Puts out the next revision, and notes in the book what it approves.
    pub fn publish(&self, revision: &Revision) {
        // Both under the document's lock: no reading may see the one without the other.
        let mut document = self.document.lock();
        document.revision += 1;
        let number = document.revision;
        let now = self.world.now();
        let mut book = self.world.book.lock();
        for (slot, change) in &revision.changes {
            match change {
                Change::Swap(build) => {
                    document.releases.insert(*slot, Release::of(self.artifacts.of(*build), number));
                    book.line_mut(*slot).approve(*build, now);
                }
                Change::WrongHash { bytes_of } => {
                    let named = sha256(format!("no archive has this hash ({number})").as_bytes());
                    let release = Release::honest(self.artifacts.of(*bytes_of));
                    document.releases.insert(*slot, Release { sha256: named, ..release });
                }
                Change::NeverReady => {
                    document.releases.insert(*slot, Release::honest(&self.artifacts.stuck));
                }
                Change::Remove => {
                    document.releases.remove(slot);
                    book.line_mut(*slot).remove();
                }
            }
        }
    }

    fn read(&self) -> String {
        let document = self.document.lock();
        self.world.book.lock().served(self.world.now());
        let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let versions: Vec<_> = document
            .releases
            .iter()
            .map(|(slot, release)| {
                let url = format!("http://{}/artifacts/{}", self.address, release.file);
                let artifact = json!({"urls": [url], "sha256": release.sha256, "size": release.size, "entry": ENTRY});
                json!({"name": slot.name(), "releases": [{"artifacts": {&platform: artifact}}]})
            })
            .collect();
        json!({"schema": 1, "revision": document.revision, "services": {SERVICE: {"versions": versions}}}).to_string()
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (kind, body) = match path.strip_prefix("/artifacts/") {
            None if path == "/catalog.json" => ("application/json", Some(Bytes::from(self.read()))),
            None => ("text/plain", None),
            Some(file) => ("application/zip", self.artifacts.by_file(file)),
        };
        let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = Response::new(Full::new(body.unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }
}

async fn accept(catalog: Arc<Catalog>, listener: TcpListener) {
    let stop = catalog.world.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let catalog = Arc::clone(&catalog);
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = catalog.answer(request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // A connection that breaks is the reader's to notice: it will ask again.
            tokio::select! { () = stop.cancelled() => {}, _ = connection => {} }
        });
    }
}
