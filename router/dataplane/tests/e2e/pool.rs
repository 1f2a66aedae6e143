//! Requests that go from choice to choice in a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use router_core::retry::{Decision, decide};
use router_dataplane::{
    Attempt, Choices, Failed, Placed, Pools, Refused, RouteTable, Target, TargetLabel, Upstream, Voucher,
};
use supervisor_protocol::{HostId, Refusal};

use crate::common::*;

/// Every request goes to these hosts, in this order; the last one of all as the last resort.
struct InOrder(Vec<Arc<Target>>);

struct Left(Vec<Arc<Target>>);

impl Pools for InOrder {
    fn begin(&self, _: &str) -> Result<Placed, Refused> {
        let first = Attempt { target: self.0[0].clone(), is_last_resort: false };
        Ok(Placed { first, choices: Box::new(Left(self.0[1..].to_vec())), class: None, stamps: Arc::new([]) })
    }
}

impl Choices for Left {
    fn failed(&mut self, failed: Failed) -> Result<Attempt, Refused> {
        match decide(failed.failure, failed.is_idempotent, failed.body, failed.attempts_left) {
            Decision::GiveUp(refusal) => Err(Refused { refusal, retry_after_s: None }),
            Decision::RetryElsewhere if self.0.is_empty() => {
                Err(Refused { refusal: Refusal::NoHost, retry_after_s: Some(7) })
            }
            Decision::RetryElsewhere => {
                let target = self.0.remove(0);
                Ok(Attempt { target, is_last_resort: self.0.is_empty() })
            }
        }
    }
}

fn host(rig: &Rig, id: &str, address: std::net::SocketAddr) -> Arc<Target> {
    let label = TargetLabel::Host { pool: "pool".to_owned(), host: id.to_owned() };
    Target::new(label, Voucher::Host(HostId::new(id).unwrap()), Upstream::Tcp(address), rig.clock)
}

/// What a host answers, and the heads that it has seen.
async fn answering(says: &'static str) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = seen.clone();
    let address = origin(move |mut peer| {
        let heads = heads.clone();
        async move {
            while let Some(request) = peer.request().await {
                heads.lock().push(format!("{request:?}"));
                peer.send(says).await.unwrap();
            }
        }
    })
    .await;
    (address, seen)
}

const REFUSES: &str = "HTTP/1.1 503 No\r\nVersiond-Host: gpu-1; boot=b1\r\n\
                       Versiond-Not-Admitted: draining; nonce=b1\r\nContent-Length: 4\r\n\r\nbusy";
const TAKES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken";

// F63: whatever the method; the last one is told that it must.
#[tokio::test]
async fn f63_what_a_host_has_not_admitted_goes_to_the_next_choice() {
    let rig = Rig::new();
    let (refuses, _) = answering(REFUSES).await;
    let (takes, seen) = answering(TAKES).await;
    let hosts = vec![host(&rig, "gpu-1", refuses), host(&rig, "gpu-2", takes)];
    rig.plane.replace_table(Arc::new(RouteTable::of_pools(Arc::new(InOrder(hosts.clone())))));
    let reply = rig.client().await.post("/v1/x?y=z", "body").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "taken"));
    let head = seen.lock().remove(0).to_lowercase();
    assert!(head.contains("versiond-last-resort") && head.contains("/v1/x?y=z"), "{head}");
    assert_eq!((hosts[0].load().inflight, hosts[1].load().admitted, rig.plane.counters().retries), (0, 1, 1));
}

// F63, F52: only the host that is meant, with its own nonce, is believed; another 503 is an answer.
#[tokio::test]
async fn f52_f63_a_refusal_in_the_name_of_another_is_an_answer() {
    for (id, says) in [
        ("gpu-9", REFUSES),
        ("gpu-1", "HTTP/1.1 503 No\r\nVersiond-Not-Admitted: draining; nonce=b1\r\nContent-Length: 4\r\n\r\nbusy"),
        (
            "gpu-1",
            "HTTP/1.1 503 No\r\nVersiond-Host: gpu-1; boot=b2\r\nVersiond-Not-Admitted: draining; nonce=b1\r\n\
             Content-Length: 4\r\n\r\nbusy",
        ),
    ] {
        let rig = Rig::with(|config| config.host = None);
        let (refuses, _) = answering(says).await;
        let (takes, seen) = answering(TAKES).await;
        let hosts = vec![host(&rig, id, refuses), host(&rig, "gpu-2", takes)];
        rig.plane.replace_table(Arc::new(RouteTable::of_pools(Arc::new(InOrder(hosts)))));
        let reply = rig.client().await.post("/v1/x", "body").await;
        assert_eq!((reply.status, reply.text().as_str()), (503, "busy"), "{id} {says}");
        assert_eq!((reply.header("versiond-not-admitted"), reply.header("versiond-host")), (None, None));
        assert!(seen.lock().is_empty());
    }
}

// F52: a POST that a host may have begun goes nowhere else; a GET does.
#[tokio::test]
async fn f52_a_post_that_broke_is_not_sent_to_another_host() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    let began = count.clone();
    let breaks = origin(move |mut peer| {
        let began = began.clone();
        async move {
            peer.request().await.unwrap();
            began.fetch_add(1, Ordering::Relaxed);
            peer.reset();
        }
    })
    .await;
    let (takes, seen) = answering(TAKES).await;
    let hosts = vec![host(&rig, "gpu-1", breaks), host(&rig, "gpu-2", takes)];
    rig.plane.replace_table(Arc::new(RouteTable::of_pools(Arc::new(InOrder(hosts)))));
    let reply = rig.client().await.post("/v1/x", "once").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_broke"));
    assert_eq!((count.load(Ordering::Relaxed), seen.lock().len()), (1, 0));
    assert_eq!(rig.get("/v1/x").await.text(), "taken");
    assert_eq!((count.load(Ordering::Relaxed), seen.lock().len()), (2, 1));
}

#[tokio::test]
async fn a_host_that_has_left_is_passed_over_and_nobody_left_is_said() {
    let rig = Rig::new();
    let (takes, seen) = answering(TAKES).await;
    let hosts = vec![host(&rig, "gpu-1", takes), host(&rig, "gpu-2", takes)];
    rig.plane.replace_table(Arc::new(RouteTable::of_pools(Arc::new(InOrder(hosts.clone())))));
    hosts[0].retire();
    assert_eq!(rig.client().await.post("/v1/x", "x").await.text(), "taken");
    assert_eq!((hosts[0].load().admitted, hosts[1].load().admitted, seen.lock().len()), (0, 1, 1));
    hosts[1].retire();
    let reply = rig.client().await.post("/v1/x", "x").await;
    assert_eq!((reply.status, reply.code().as_str(), reply.header("retry-after")), (503, "no_host", Some("7")));
    // A path of a lifecycle is nobody's, whoever would be chosen.
    for path in ["/drain", "/readyz", "/healthz"] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
}
