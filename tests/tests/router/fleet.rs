//! Hosts with one slot each, and two routers before them.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ::http::Method;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use supervisor_protocol::host::HostState;
use supervisor_protocol::router::{HostStatus, Hosts, LookupReport};
use tokio::net::UnixStream;
use versiond_demo::supervisor::config::pick_ports;

use crate::common::release;
use crate::http::{Answer, asks, get, whole};
use crate::node::{Node, send};
use crate::releases::{Build, Document};

/// The slot of every host.
pub(crate) const SLOT: &str = "v0.3";
/// What has not come true by then never will. Generous: the machine may be busy with other builds.
const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The hosts and the routers of a test.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Node>,
    pub(crate) routers: Vec<RouterProcess>,
    folder: Utf8PathBuf,
    _temporary: tempfile::TempDir,
}

/// One router. Dropped before its end, it is killed.
pub(crate) struct RouterProcess {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: Utf8PathBuf,
    child: Mutex<Option<Child>>,
}

impl Fleet {
    /// So many hosts, `gpu-1` and on, and two routers that know all of them.
    pub(crate) async fn of(count: usize) -> Fleet {
        let mut hosts = Vec::new();
        for number in 1..=count {
            hosts.push(host(&format!("gpu-{number}")).await);
        }
        Fleet::before(hosts).await
    }

    /// Two routers before hosts that serve.
    pub(crate) async fn before(hosts: Vec<Node>) -> Fleet {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(temporary.path().to_owned()).unwrap();
        let count = hosts.len();
        let fleet = Fleet { hosts, routers: Vec::new(), folder, _temporary: temporary };
        fleet.list(fleet.hosts.iter());
        let routers = (1..=2).map(|number| RouterProcess::start(&fleet.folder, number)).collect();
        let fleet = Fleet { routers, ..fleet };
        fleet
            .until_each("every host is known", |hosts| {
                hosts.len() == count && hosts.iter().all(|host| host.role.as_deref() == Some("ready"))
            })
            .await;
        fleet
    }

    /// Names the members to both routers.
    pub(crate) fn list<'n>(&self, hosts: impl Iterator<Item = &'n Node>) {
        let listed: Vec<_> = hosts.map(|node| serde_json::json!({ "address": node.host.to_string() })).collect();
        self.write_list(&serde_json::to_string(&listed).unwrap());
    }

    /// The same with any text.
    pub(crate) fn write_list(&self, text: &str) {
        let beside = self.folder.join("hosts.next");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.folder.join("hosts.json")).unwrap();
    }

    /// Waits until both routers see their hosts so.
    pub(crate) async fn until_each(&self, what: &str, is: impl Fn(&[HostStatus]) -> bool) {
        for router in &self.routers {
            router.until(what, &is).await;
        }
    }

    /// The host of this identity.
    pub(crate) fn host(&self, id: &str) -> &Node {
        let number: usize = id.trim_start_matches("gpu-").parse().unwrap();
        &self.hosts[number - 1]
    }

    /// Cordons a host, or takes that back, as `versionctl drain` does on it.
    pub(crate) async fn cordon(&self, id: &str, method: Method) {
        let socket = UnixStream::connect(self.host(id).admin()).await.unwrap();
        let answer = whole(socket, asks(method, "/v1/drain", "{\"mode\":\"all\"}")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Ends everything, in order.
    pub(crate) async fn end(self) {
        for router in &self.routers {
            assert_eq!(router.stop().await.code(), Some(0), "{}", router.log());
        }
        for host in self.hosts {
            // One that was killed has nothing to end in order.
            if host.supervisor.exited().is_none() && host.supervisor.pid().is_some() {
                host.end().await;
            }
        }
    }
}

/// A host that serves its one slot.
pub(crate) async fn host(id: &str) -> Node {
    let document = Document::of([(SLOT, Build::A.in_place())]);
    let aliases = "[service.demo]\nroute_aliases = [\"/devshard/{version}\"]\n";
    let node = Node::new(&format!("[host]\nid = \"{id}\"\n{aliases}"));
    node.publish(&document);
    node.start();
    node.until_ready(|all| all.state != HostState::Starting && all.slots.iter().all(|slot| slot.ready)).await;
    node
}

impl RouterProcess {
    fn start(fleet: &Utf8Path, number: usize) -> RouterProcess {
        let folder = fleet.join(format!("router-{number}"));
        std::fs::create_dir(&folder).unwrap();
        // The range has room for both; hosts of other tests keep their distance by the same means.
        let (address, others) = pick_ports().unwrap();
        let admin = SocketAddr::from((address.ip(), *others.start()));
        let settings = format!(
            r#"[router]
listen = "{address}"
admin = "{admin}"
state_dir = "{folder}/state"
threads = 1
announce = "none"
drain = "60s"
[[route]]
match = "/devshard/{{version}}/sessions/{{session}}/*"
pool = "devshard"
key = "{{session}}"
[[route]]
match = "/{{version}}/*"
pool = "devshard"
[pool.devshard]
file = "{fleet}/hosts.json"
versions = true
check_timeout = "1s"
"#
        );
        std::fs::write(folder.join("router.toml"), settings).unwrap();
        let router = RouterProcess { address, admin, folder, child: Mutex::new(None) };
        router.run();
        router
    }

    /// Starts it, or starts it again.
    pub(crate) fn run(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("router.log")).unwrap();
        let mut command = Command::new(release("versiond-router"));
        command.arg("--config").arg(self.folder.join("router.toml")).stdin(Stdio::null());
        *self.child.lock() = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.lock().as_ref().map(Child::id).expect("the router runs");
        send(pid, signal);
    }

    /// Stops it in order, and says how it ended.
    pub(crate) async fn stop(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            let ended = self.child.lock().as_mut().and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                *self.child.lock() = None;
                return status;
            }
            assert!(begun.elapsed() < WITHIN, "it does not end:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Its configuration.
    pub(crate) fn settings(&self) -> Utf8PathBuf {
        self.folder.join("router.toml")
    }

    /// Waits until its log has this.
    pub(crate) async fn until_said(&self, what: &str) {
        let begun = Instant::now();
        while !self.log().contains(what) {
            assert!(begun.elapsed() < WITHIN, "it has not said {what:?}:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("router.log")).unwrap_or_default()
    }

    /// `GET` on the data listener.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(self.address, path).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()))
    }

    /// Where a request for this path would go: the ids, first choice first.
    pub(crate) async fn lookup(&self, path: &str) -> Vec<String> {
        let report: LookupReport = self.ask(&format!("/v1/lookup?path={path}")).await.json();
        assert!(report.refused.is_none(), "{report:?}");
        report.candidates.into_iter().map(|candidate| candidate.id).collect()
    }

    /// `GET` on the admin listener.
    pub(crate) async fn ask(&self, path: &str) -> Answer {
        get(self.admin, path).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()))
    }

    /// How many lists of members it has not followed.
    pub(crate) async fn lists_not_followed(&self) -> u64 {
        let metrics = self.ask("/metrics").await.text();
        let lines = metrics.lines().filter(|line| line.starts_with("versiond_router_listings_total"));
        let counts = lines.filter(|line| !line.contains("followed")).filter_map(|line| line.rsplit_once(' '));
        counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
    }

    /// Waits until it has not followed more than so many.
    pub(crate) async fn until_not_followed(&self, before: u64) {
        let begun = Instant::now();
        while self.lists_not_followed().await <= before {
            assert!(begun.elapsed() < WITHIN, "it has not looked at the list:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn hosts(&self) -> Vec<HostStatus> {
        self.ask("/v1/hosts").await.json::<Hosts>().hosts
    }

    /// One host by its identity.
    pub(crate) async fn host(&self, id: &str) -> HostStatus {
        let hosts = self.hosts().await;
        hosts.iter().find(|host| host.id.as_deref() == Some(id)).unwrap_or_else(|| panic!("{id} in {hosts:?}")).clone()
    }

    /// Waits until it sees its hosts so, also over its start.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&[HostStatus]) -> bool) {
        let begun = Instant::now();
        let mut last = Vec::new();
        while begun.elapsed() < WITHIN {
            if let Ok(answer) = get(self.admin, "/v1/hosts").await {
                last = answer.json::<Hosts>().hosts;
                if is(&last) {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("not within {WITHIN:?}: {what}; last: {last:#?}\n{}", self.log())
    }
}

impl Drop for RouterProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The role in which a host may be chosen.
pub(crate) fn role<'h>(hosts: &'h [HostStatus], id: &str) -> Option<&'h str> {
    hosts.iter().find(|host| host.id.as_deref() == Some(id))?.role.as_deref()
}
