//! A new build on every host at once, and how soon routers notice what hosts become.

use std::time::Instant;

use ::http::Method;
use nix::sys::signal::Signal;

use crate::fleet::{Fleet, SLOT, role};
use crate::load::Load;
use crate::releases::{Build, Document};

/// P1, P4: hosts that roll at the same time refuse nothing and cut nothing.
#[tokio::test]
async fn p1_p4_a_build_rolls_through_all_hosts_at_once_without_a_failure() {
    let fleet = Fleet::of(3).await;
    let (get, post) = (Load::begin(&fleet, 8, &Method::GET), Load::begin(&fleet, 4, &Method::POST));
    get.goes_on(50).await;
    let b = Build::B.in_place();
    for host in &fleet.hosts {
        host.publish(&Document::of([(SLOT, Build::A.in_place())]).with(SLOT, &b));
    }
    for host in &fleet.hosts {
        host.until_settled(SLOT, &b.sha256).await;
    }
    get.goes_on(50).await;
    post.goes_on(20).await;
    for met in [get.end().await, post.end().await] {
        assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    }
    fleet.end().await;
}

/// F60: what a host says counts at once, a refused connection too; silence takes two checks, and so does coming back.
#[tokio::test]
async fn f60_an_unready_a_dead_and_a_silent_host_leave_and_come_back() {
    let fleet = Fleet::of(3).await;
    let out = |id: &'static str| move |hosts: &[_]| role(hosts, id).is_none();
    let back = |id: &'static str| move |hosts: &[_]| role(hosts, id) == Some("ready");

    let begun = Instant::now();
    fleet.cordon("gpu-1", Method::POST).await;
    fleet.until_each("the cordoned one is out", out("gpu-1")).await;
    println!("cordoned: seen by both routers after {} ms", begun.elapsed().as_millis());
    fleet.cordon("gpu-1", Method::DELETE).await;
    fleet.until_each("the cordoned one is back", back("gpu-1")).await;

    let begun = Instant::now();
    fleet.host("gpu-2").signal(Signal::SIGSTOP);
    fleet.until_each("the silent one is out", out("gpu-2")).await;
    println!("silent: seen by both routers after {} ms", begun.elapsed().as_millis());
    fleet.host("gpu-2").signal(Signal::SIGCONT);
    fleet.until_each("the silent one is back", back("gpu-2")).await;

    let begun = Instant::now();
    fleet.host("gpu-3").signal(Signal::SIGKILL);
    fleet.until_each("the dead one is out", out("gpu-3")).await;
    println!("dead: seen by both routers after {} ms", begun.elapsed().as_millis());
    fleet.host("gpu-3").supervisor.kill_and_restart(|| ()).await.unwrap();
    fleet.until_each("the dead one is back", back("gpu-3")).await;
    fleet.end().await;
}
