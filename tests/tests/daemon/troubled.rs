//! A host on which enough goes wrong for every metric to move, and what its metrics said at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use supervisor_protocol::env;
use supervisor_protocol::host::HostState;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::exhaustion::inside;
use crate::http::{EventStream, get};
use crate::metrics::Exposition;
use crate::node::{Node, send, serving};
use crate::releases::{Build, Document, Release};
use crate::tools::{command, to, versionctl};

const SLOT: &str = "v0.3";
/// What does not move by then never will.
const WITHIN: Duration = Duration::from_secs(60);

/// Series, each with the greatest value that it had.
pub(crate) type Greatest = BTreeMap<String, f64>;

/// One life of such a host is enough for all tests.
pub(crate) async fn greatest() -> &'static Greatest {
    static GREATEST: OnceCell<Greatest> = OnceCell::const_new();
    GREATEST.get_or_init(troubled).await
}

struct Host {
    node: Node,
    greatest: Greatest,
}

async fn troubled() -> Greatest {
    let folder = tempfile::tempdir().unwrap();
    // A file that may not grow is an error then, and no signal.
    let versiond = inside("trap '' XFSZ\nexec", Utf8Path::from_path(folder.path()).unwrap());
    let document = Document::of([(SLOT, Build::A.in_place())]);
    let node = Node::of(&versiond, &older());
    node.publish(&document);
    node.start();
    node.until_ready(|all| all.state != HostState::Starting && all.slots.iter().all(|slot| slot.ready)).await;
    let mut host = Host { node, greatest: Greatest::new() };
    let wrong = host.swaps(&document).await;
    host.goes_back().await;
    host.crashes().await;
    host.node.publish_text(&wrong.text().replace("schema", "no schema"));
    host.node.until(|status| status.catalog.reason.is_some()).await;
    for gauge in ["versiond_catalog_age_seconds", "versiond_catalog_refused"] {
        host.until_moved(gauge).await;
    }
    assert_eq!(host.node.status().await.state, HostState::Serving);
    host.node.end().await;
    host.greatest
}

impl Host {
    async fn read(&mut self) {
        for (series, value) in Exposition::read(&self.node.get_admin("/metrics").await.text()).samples {
            let greatest = self.greatest.entry(series).or_insert(value);
            *greatest = greatest.max(value);
        }
    }

    /// Reads until a series of this name has been more than zero.
    async fn until_moved(&mut self, name: &str) {
        let begun = Instant::now();
        loop {
            self.read().await;
            let of_name = |(series, value): (&String, &f64)| series.split('{').next() == Some(name) && *value > 0.0;
            if self.greatest.iter().any(of_name) {
                return;
            }
            assert!(begun.elapsed() < WITHIN, "{name} has not moved: {:#?}", self.greatest);
        }
    }

    /// To another build, under a stream, while a third is not what its name says.
    async fn swaps(&mut self, document: &Document) -> Document {
        let stream = EventStream::open(self.node.host, &format!("/{SLOT}"), 3_000).await;
        let b = Build::B.in_place();
        let wrong = Release { sha256: "ab".repeat(32), ..Build::A.in_place() };
        let next = document.with(SLOT, &b).with("v0.4", &wrong);
        self.node.publish(&next);
        self.node.until(|status| serving(status, SLOT).is_some_and(|it| it.sha256.to_string() == b.sha256)).await;
        for gauge in ["versiond_draining_seconds", "versiond_draining_inflight", "versiond_leases"] {
            self.until_moved(gauge).await;
        }
        stream.finish().await.unwrap();
        self.until_moved("versiond_drain_seconds_count").await;
        assert_eq!(self.node.get("/v0.5/hello").await.status, 404);
        next
    }

    /// An operator goes back, cannot be written down once, and a child asks for what it may not.
    async fn goes_back(&mut self) {
        let slot = format!("demo/{SLOT}");
        let a = Build::A.in_place();
        let back = versionctl(&self.node, &["rollback", &slot]).await;
        assert_eq!(back.code, Some(0), "{}", back.err);
        self.node.until_settled(SLOT, &a.sha256).await;
        self.files_may_have("0").await;
        let unwritten = versionctl(&self.node, &["hold", &slot]).await;
        self.files_may_have("unlimited").await;
        assert!(unwritten.err.contains("ledger_unwritable"), "{} {}", unwritten.out, unwritten.err);
        let child =
            command("versionctl", to(&self.node, &["status"])).env(env::NONCE, "0123456789abcdef").output().await;
        assert_eq!(child.unwrap().status.code(), Some(4));
    }

    /// Sets the size that a file may have for whoever writes it.
    async fn files_may_have(&self, bytes: &str) {
        let pid = self.node.supervisor.pid().unwrap().to_string();
        let limit = format!("--fsize={bytes}:unlimited");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().await.unwrap();
        assert!(set.success(), "{set}");
    }

    /// Its process is killed while it has a stream, and a request that it has not begun to answer.
    async fn crashes(&mut self) {
        let stream = EventStream::open(self.node.host, &format!("/{SLOT}"), 50_000).await;
        let pid = serving(&self.node.status().await, SLOT).unwrap().pid.unwrap();
        send(pid, Signal::SIGSTOP);
        let host = self.node.host;
        let asked = tokio::spawn(async move { get(host, &format!("/{SLOT}/hello")).await });
        self.node.until(|status| serving(status, SLOT).is_some_and(|it| it.inflight > 1)).await;
        send(pid, Signal::SIGKILL);
        for gauge in ["versiond_held_requests_now", "versiond_held_bytes_now"] {
            self.until_moved(gauge).await;
        }
        stream.finish().await.unwrap_err();
        assert_eq!(asked.await.unwrap().unwrap().status, 200);
        for counter in ["versiond_restarts_total", "versiond_cut_leases_total", "versiond_hold_seconds_count"] {
            self.until_moved(counter).await;
        }
    }
}

/// The settings of a child of the older contract, whose metrics have one that passes for the supervisor's own.
fn older() -> String {
    let program = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guests/programs/older.py");
    format!(
        r#"
[service.old]
command = ["{program}", "--port", "{{port}}"]
version = "v0.2"
contract = "older"
route = "/old"
env = {{ WORD = "first", STORAGE = "postgres" }}
"#
    )
}
