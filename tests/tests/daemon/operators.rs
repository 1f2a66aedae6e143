//! The admin API as operators meet it: who is let in, what is kept of what they did, and the event stream.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use nix::unistd::Uid;
use serde_json::Value;
use supervisor_protocol::Reason;
use supervisor_protocol::admin::{DenyList, Plan, Status};
use supervisor_protocol::events::{Act, Event, Happening};
use supervisor_protocol::host::HostState;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::http::get;
use crate::node::{Node, slot};
use crate::releases::{Build, Document};
use crate::tools::{Said, command, run, to, versionctl};

/// Groups and users of these numbers exist nowhere: the kernel does not mind.
const OPERATORS: u32 = 61_001;
const READERS: u32 = 61_002;
const SOMEBODY: u32 = 61_003;

/// As another user and group.
fn disguised(node: &Node, args: &[&str], gid: u32) -> Command {
    let mut command = command("versionctl", to(node, args));
    command.uid(SOMEBODY).gid(gid);
    command
}

async fn said(mut command: Command) -> Said {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

#[tokio::test]
async fn f43_groups_say_who_reads_and_who_acts_and_no_child_does_either() {
    let settings = format!("[host]\noperators = \"{OPERATORS}\"\nreaders = \"{READERS}\"\n");
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), &settings).await;

    // A process with the nonce of a generation, whoever it runs as.
    let mut child = command("versionctl", to(&node, &["status"]));
    child.env(supervisor_protocol::env::NONCE, "0123456789abcdef");
    let refused = said(child).await;
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("a child of versiond") && refused.err.contains("(forbidden)"), "{}", refused.err);

    // Only root can become another user.
    if Uid::effective().is_root() {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(node.folder(), open).unwrap();
        let stranger = said(disguised(&node, &["status"], SOMEBODY)).await;
        assert_eq!(stranger.code, Some(4));
        assert!(stranger.err.contains("[host] operators"), "{}", stranger.err);
        let reader = said(disguised(&node, &["status"], READERS)).await;
        assert_eq!(reader.code, Some(0), "{}", reader.err);
        let acts = said(disguised(&node, &["drain"], READERS)).await;
        assert_eq!(acts.code, Some(4));
        assert!(acts.err.contains("may read and not change"), "{}", acts.err);
        assert_eq!(node.status().await.state, HostState::Serving);
        let operator = said(disguised(&node, &["drain"], OPERATORS)).await;
        assert_eq!(operator.code, Some(0), "{}", operator.err);
        assert_eq!(node.status().await.state, HostState::Cordoned);
        let by = format!("uid {SOMEBODY}");
        let acts = acts_of(&node).await;
        // What was not let in is in the log, and pushes nothing out of the ring.
        assert_eq!(acts, [Act { by, request: "POST /v1/drain".to_owned(), status: 200, code: None }]);
    }
    node.end().await;
}

#[tokio::test]
async fn a_port_is_for_those_who_show_the_token() {
    let node = Node::new("");
    let token = node.folder().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.set(&format!("[host]\nadmin_tcp = \"{free}\"\nadmin_token_file = \"{token}\"\n"));
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    node.start();
    node.until_ready(|all| all.ready).await;
    assert_eq!(get(free, "/v1/status").await.unwrap().status, 401);
    let place = format!("http://{free}");
    let refused = run("versionctl", ["--admin", &place, "status"]).await;
    assert_eq!((refused.code, refused.err.contains("(unauthorized)")), (Some(4), true), "{}", refused.err);
    let line = ["--admin", &place, "--token-file", token.as_str(), "drain"];
    assert_eq!(run("versionctl", line).await.code, Some(0));
    assert_eq!(acts_of(&node).await.iter().map(|act| act.by.as_str()).collect::<Vec<_>>(), ["token"]);
    node.end().await;
}

/// What operators did, as the stream tells it from the beginning.
async fn acts_of(node: &Node) -> Vec<Act> {
    let events = events_until(node, &[], |event| matches!(event.what, Happening::Act(_))).await;
    let acts = events.into_iter().filter_map(|(_, event)| match event.what {
        Happening::Act(act) => Some(act),
        Happening::Transition(_) | Happening::Host { .. } | Happening::Drained(_) | Happening::Missed { .. } => None,
    });
    acts.collect()
}

/// The events from the beginning, or after one, to the first that is looked for.
async fn events_until(node: &Node, after: &[&str], last: impl Fn(&Event) -> bool) -> Vec<(String, Event)> {
    let args: Vec<&str> = ["events", "--json"].into_iter().chain(after.iter().copied()).collect();
    let mut reader = command("versionctl", to(node, &args)).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut events = Vec::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let value: Value = serde_json::from_str(&line).unwrap();
            let event: Event = serde_json::from_value(value.clone()).unwrap();
            let found = last(&event);
            events.push((value["id"].as_str().unwrap().to_owned(), event));
            if found {
                return;
            }
        }
        panic!("the stream ended before what was looked for: {events:?}");
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), read).await.expect("it happens");
    reader.kill().await.unwrap();
    events
}

#[tokio::test]
async fn the_event_stream_tells_a_swap_in_order_and_goes_on_where_a_reader_left() {
    let document = Document::of([("v0.3", Build::A.in_place())]);
    let node = Node::serving(&document, "").await;
    let b = Build::B.in_place();
    node.publish(&document.with("v0.3", &b));
    node.until_settled("v0.3", &b.sha256).await;
    let told = |event: &Event| match &event.what {
        Happening::Transition(it) => {
            let from = it.from.map_or("-", supervisor_protocol::admin::Phase::as_str);
            Some(format!("{} {from} {}", it.generation, it.to.as_str()))
        }
        Happening::Drained(receipt) => Some(format!("{} drained", receipt.generation)),
        Happening::Host { .. } | Happening::Act(_) | Happening::Missed { .. } => None,
    };
    let all = events_until(&node, &[], |event| told(event).as_deref() == Some("g1 drained")).await;
    let numbers: Vec<u64> = all.iter().map(|(_, event)| event.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let all: Vec<(&str, String)> = all.iter().filter_map(|(id, event)| Some((id.as_str(), told(event)?))).collect();
    let at = |what: &str| all.iter().position(|(_, told)| told == what).unwrap_or_else(|| panic!("{what}: {all:?}"));
    assert!(at("g1 - fetching") < at("g2 - fetching"));
    assert!(at("g2 - fetching") < at("g1 serving retired"));
    assert!(at("g1 draining parked") < at("g1 drained"));

    let middle = at("g2 - fetching");
    let rest =
        events_until(&node, &["--after", all[middle].0], |event| told(event).as_deref() == Some("g1 drained")).await;
    let rest: Vec<String> = rest.iter().filter_map(|(_, event)| told(event)).collect();
    assert_eq!(rest, all[middle + 1..].iter().map(|(_, told)| told.clone()).collect::<Vec<_>>());

    let wrong = versionctl(&node, &["events", "--after", "what"]).await;
    assert_eq!((wrong.code, wrong.err.contains("bad_event_id")), (Some(4), true), "{}", wrong.err);
    let mut people = command("versionctl", to(&node, &["events"])).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(people.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(" s  "), "{first}");
    people.kill().await.unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_plan_says_what_would_happen_and_a_denied_hash_is_listed_and_outlives_a_restart() {
    let (a, b) = (Build::A.in_place(), Build::B.in_place());
    let document = Document::of([("v0.3", a.clone())]);
    let node = Node::serving(&document, "").await;
    assert_eq!(versionctl(&node, &["hold", "demo/v0.3"]).await.code, Some(0));
    node.publish(&document.with("v0.3", &b));
    let wanted = |status: &Status| slot(status, "v0.3")?.desired.map(|sha256| sha256.to_string());
    node.until(|status| wanted(status).as_ref() == Some(&b.sha256)).await;
    let plan: Plan = node.get_admin("/v1/plan?slot=demo/v0.3").await.json();
    let next = &plan.slots[0];
    assert_eq!(next.serving.map(|sha256| sha256.to_string()), Some(a.sha256.clone()));
    assert_eq!(next.desired.map(|sha256| sha256.to_string()), Some(b.sha256.clone()));
    assert!(next.blocked_by.iter().any(|it| it.reason == Reason::HeldByOperator), "{next:?}");
    let said = versionctl(&node, &["plan"]).await;
    assert!(said.out.contains("[held_by_operator]"), "{}", said.out);

    let denied = versionctl(&node, &["deny", &b.sha256]).await;
    assert_eq!((denied.code, denied.err.as_str()), (Some(0), ""));
    assert!(denied.out.contains(&format!("{}  denied by the operator", b.sha256)), "{}", denied.out);
    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    node.until_ready(|all| all.ready).await;
    let list: DenyList = node.get_admin("/v1/deny").await.json();
    assert_eq!(list.operator.iter().map(ToString::to_string).collect::<Vec<_>>(), [b.sha256.as_str()]);
    assert_eq!(versionctl(&node, &["allow", &b.sha256]).await.out, "nothing is denied\n");
    assert_eq!(node.get_admin("/v1/plan?slot=demo/v9").await.status, 404);
    node.end().await;
}
