//! Hosts whose builds may not run side by side and take long to start: one after the other leaves the slot to its
//! peers, and clients do not notice.

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::json;
use supervisor_protocol::host::{HostState, ReadyAll};
use supervisor_protocol::{HostId, Sha256};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use versiond_demo::supervisor::admin::get_at;

use crate::fleet::{Fleet, SLOT, role};
use crate::http::{EventStream, asks, whole};
use crate::load::Load;
use crate::node::{Node, SERVICE};
use crate::releases::{Build, Document};

/// Each host's children need a device of it for themselves, and no request may wait as long as a start takes.
const SETTINGS: &str = "[service.demo]\nroute_aliases = [\"/devshard/{version}\"]\ngpu = [\"0\"]\n\
                        [service.demo.rollout]\njitter = \"none\"\n[timing]\nhold = \"100ms\"\nannounce = \"8s\"\n";

/// So many hosts that know of each other, and serve build A.
async fn hosts(count: usize) -> Vec<Node> {
    let hosts: Vec<Node> = (1..=count).map(|number| Node::new(&format!("[host]\nid = \"gpu-{number}\"\n"))).collect();
    let peers: Vec<String> = (1..).zip(&hosts).map(|(number, node)| format!("gpu-{number}={}", node.host)).collect();
    for node in &hosts {
        node.set(&format!("{SETTINGS}[host]\npeers = {}\n", json!(peers)));
        node.publish(&Document::of([(SLOT, Build::A.in_place())]));
        node.start();
    }
    for node in &hosts {
        node.until_ready(|all| all.state != HostState::Starting && all.slots.iter().all(|slot| slot.ready)).await;
    }
    hosts
}

/// Who is away, whenever somebody looks: each host in the order in which it first was.
struct Watch {
    stop: CancellationToken,
    seen: Arc<Mutex<(Vec<String>, usize)>>,
    looking: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn begin(fleet: &Fleet) -> Watch {
        let addresses: Vec<_> = fleet.hosts.iter().map(|node| node.host).collect();
        let (stop, seen) = (CancellationToken::new(), Arc::new(Mutex::new((Vec::new(), 0))));
        let (stopped, known) = (stop.clone(), seen.clone());
        let looking = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                let mut away = 0;
                for address in &addresses {
                    let Ok(all) = get_at::<ReadyAll>(*address, "/readyz?all=1").await else { continue };
                    if all.slots.iter().any(|slot| slot.evacuating && !slot.ready) {
                        away += 1;
                        let mut known = known.lock();
                        if !known.0.contains(&all.id.to_string()) {
                            known.0.push(all.id.to_string());
                        }
                    }
                }
                {
                    let mut known = known.lock();
                    known.1 = known.1.max(away);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Watch { stop, seen, looking }
    }

    /// The order in which hosts were away, and how many at once.
    async fn end(self) -> (Vec<String>, usize) {
        self.stop.cancel();
        self.looking.await.unwrap();
        self.seen.lock().clone()
    }
}

/// The order that every host computes for a build.
fn order(sha256: &str) -> Vec<String> {
    let sha256: Sha256 = sha256.parse().unwrap();
    let hosts = ["gpu-1", "gpu-2", "gpu-3"].map(|id| id.parse::<HostId>().unwrap());
    let place = |host: &HostId| versiond_demo::artifacts::sha256(&[&sha256.0[..], host.as_str().as_bytes()].concat()).0;
    let mut placed: Vec<_> = hosts.iter().map(|host| (place(host), host.to_string())).collect();
    placed.sort();
    placed.into_iter().map(|(_, host)| host).collect()
}

/// F59, P1, P4: a build is rolled through all hosts, one at a time and in the order that all of them compute, under
/// load, and nothing fails or is cut.
#[tokio::test]
async fn f59_p1_p4_a_build_is_evacuated_through_all_hosts_one_at_a_time_without_a_failure() {
    let fleet = Fleet::before(hosts(3).await).await;
    let (get, post) = (Load::begin(&fleet, 8, &Method::GET), Load::begin(&fleet, 4, &Method::POST));
    let mut streams = Vec::new();
    for session in 0..9 {
        let router = fleet.routers[session % 2].address;
        let path = format!("/devshard/{SLOT}");
        streams.push(EventStream::session(router, &path, &session.to_string(), 6_000).await);
    }
    get.goes_on(50).await;
    let b = Build::B.in_place();
    let watch = Watch::begin(&fleet);
    for host in &fleet.hosts {
        host.publish(&Document::of([(SLOT, Build::A.in_place())]).with(SLOT, &b));
    }
    for host in &fleet.hosts {
        host.until_settled(SLOT, &b.sha256).await;
    }
    let (went, at_once) = watch.end().await;
    assert_eq!((went, at_once), (order(&b.sha256), 1));
    for stream in streams {
        stream.finish().await.unwrap();
    }
    get.goes_on(50).await;
    post.goes_on(20).await;
    for met in [get.end().await, post.end().await] {
        assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    }
    fleet.end().await;
}

/// F59: a host that comes earlier and is gone is waited for by name, until an operator says that it is not.
#[tokio::test]
async fn f59_a_host_that_is_gone_is_waited_for_by_name_until_an_operator_forces_the_order() {
    let fleet = Fleet::before(hosts(3).await).await;
    let b = Build::B.in_place();
    let order = order(&b.sha256);
    fleet.host(&order[0]).signal(Signal::SIGKILL);
    fleet.until_each("it is out", |hosts| role(hosts, &order[0]).is_none()).await;
    let second = fleet.host(&order[1]);
    second.publish(&Document::of([(SLOT, Build::A.in_place())]).with(SLOT, &b));
    let why = second.until_why(SLOT, |reason| reason.code() == "peer_silent").await.to_string();
    assert!(why.contains(&order[0]) && why.contains("--force-order"), "{why}");
    let approve = json!({"force_order": true}).to_string();
    let socket = UnixStream::connect(second.admin()).await.unwrap();
    let path = format!("/v1/services/{SERVICE}/versions/{SLOT}/approve");
    let answer = whole(socket, asks(Method::POST, &path, &approve)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    second.until_settled(SLOT, &b.sha256).await;
    fleet.end().await;
}
