//! The configuration that the demo gives to versiond, and the ports that it picks.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use camino::Utf8Path;
use parking_lot::Mutex;

use crate::catalog::SERVICE;

/// The admin socket, in the folder of the run.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// Where versiond keeps its state, in the folder of the run.
pub const STATE: &str = "state";

/// What differs from run to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the host calls itself; its children sign their answers with it.
    pub id: String,
    pub listen: SocketAddr,
    /// Where the status endpoints are, when they have a listener of their own.
    pub status_listen: Option<SocketAddr>,
    pub child_ports: RangeInclusive<u16>,
    /// How often the catalog is read, in seconds.
    pub poll_s: u64,
    /// Where the catalog is read.
    pub source: String,
    /// How long a stream may last, in seconds: every drain must be able to wait for it.
    pub longest_stream_s: u64,
    /// How long the host says that it goes before it does, or `none`.
    pub announce: &'static str,
}

impl Config {
    /// Of a host called `demo` that reads its catalog every second and announces nothing.
    #[must_use]
    pub fn new(
        (listen, child_ports): (SocketAddr, RangeInclusive<u16>),
        source: String,
        longest_stream_s: u64,
    ) -> Self {
        let (id, status_listen, poll_s, announce) = ("demo".to_owned(), None, 1, "none");
        Self { id, listen, status_listen, child_ports, poll_s, source, longest_stream_s, announce }
    }

    /// The file that versiond reads.
    #[must_use]
    pub fn to_toml(&self, folder: &Utf8Path) -> String {
        let Config { id, listen, status_listen, child_ports, poll_s, source, longest_stream_s, announce } = self;
        let (first, last) = (child_ports.start(), child_ports.end());
        let drain = longest_stream_s + 30;
        let status = status_listen.map_or_else(String::new, |address| format!("status_listen = \"{address}\"\n"));
        format!(
            r#"[host]
id = "{id}"
listen = "{listen}"
admin = "unix:{folder}/{ADMIN_SOCKET}"
metrics = "none"
{status}state_dir = "{folder}/{STATE}"
child_ports = "{first}-{last}"
shutdown_budget = "{budget}s"

[catalog]
source = "{source}"
poll = "{poll_s}s"
service = "{SERVICE}"

[service.{SERVICE}]
route = "/{{version}}"
route_aliases = ["/devshard/{{version}}"]
env = {{ DEMO_HOST = "{id}" }}
args = ["--port", "{{port}}", "--data-dir", "{{data_dir}}"]
rollout = {{ jitter = "none" }}

[timing]
announce = "{announce}"
drain = "{drain}s"
drain_stream = "{drain}s"
drain_upgrade = "{drain}s"
drain_job = "{drain}s"
drain_request = "{drain}s"
stop_grace = "5s"
ready_window = "6s"
ready_max = "12s"
host_drain_min = "5s"
hold = "20s"
bake = "2s"
"#,
            budget = drain + 25,
        )
    }
}

/// Ports that are picked together: the first is the host's own, the rest are the children's, and the last is the mark of
/// who has picked them.
const BLOCK: u16 = 100;
/// Marks that are held; of so many picks before nobody is alive.
const MARKS: usize = 150;

/// A free address and a free range for the children, both below the range from which the kernel takes the
/// source ports of the demo's own clients.
///
/// What is free now may be another's in a moment: so blocks are aligned, and whoever picks one listens on its last port.
/// Two pickers have the same block or none in common, and the second is told by the mark, in whatever process it is.
pub fn pick_ports() -> anyhow::Result<(SocketAddr, RangeInclusive<u16>)> {
    static HELD: Mutex<VecDeque<TcpListener>> = Mutex::new(VecDeque::new());
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ephemeral: u16 = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let blocks = ephemeral / BLOCK;
    ensure!(blocks > 20, "the kernel's ephemeral ports begin at {ephemeral}: no room below");
    let lowest = if blocks > 120 { 100 } else { 11 };
    let listens = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..400 {
        let first = rand::random_range(lowest..blocks) * BLOCK;
        let last = first + BLOCK - 1;
        let Ok(mark) = listens(last) else { continue };
        if (first..last).all(|port| listens(port).is_ok()) {
            let mut held = HELD.lock();
            held.push_back(mark);
            if held.len() > MARKS {
                held.pop_front();
            }
            return Ok((SocketAddr::from((Ipv4Addr::LOCALHOST, first)), first + 1..=last - 1));
        }
    }
    None.context("found no range of free ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_toml_and_keeps_the_braces_of_its_templates() {
        let ports = ("127.0.0.1:8080".parse().unwrap(), 20_000..=20_098);
        let config = Config {
            id: "gpu-7".to_owned(),
            status_listen: Some("127.0.0.1:8081".parse().unwrap()),
            ..Config::new(ports, "http://127.0.0.1:9/catalog.json".to_owned(), 15)
        };
        let file: toml::Table = config.to_toml(Utf8Path::new("/tmp/x")).parse().unwrap();
        assert_eq!(file["host"]["status_listen"].as_str(), Some("127.0.0.1:8081"));
        assert_eq!(file["service"]["demo"]["route"].as_str(), Some("/{version}"));
        assert_eq!(file["service"]["demo"]["env"]["DEMO_HOST"].as_str(), Some("gpu-7"));
        assert_eq!(file["host"]["child_ports"].as_str(), Some("20000-20098"));
        assert_eq!(file["host"]["admin"].as_str(), Some("unix:/tmp/x/admin.sock"));
    }

    #[test]
    fn the_ports_that_are_picked_lie_side_by_side() {
        let (listen, children) = pick_ports().unwrap();
        assert_eq!(*children.start(), listen.port() + 1);
        assert_eq!(children.len(), 98);
        // Nobody picks what another has picked, although nobody listens there yet.
        let others: Vec<_> = (0..20).map(|_| pick_ports().unwrap().0).collect();
        let all: std::collections::BTreeSet<_> = others.iter().chain([&listen]).collect();
        assert_eq!(all.len(), 21);
    }
}
