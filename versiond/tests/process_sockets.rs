//! Whose socket answers on a port. The child that listens is this test program, run again.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use process_support::*;
use versiond::process::sockets::{Ownership, owner_of_port};
use versiond::process::{PortAllocator, PortRange, Signal, oneshot, seal};

/// Not a test but a child that listens where it is told to.
#[test]
fn helper_listener() {
    let Ok(address) = std::env::var("TEST_LISTEN") else { return };
    // Outside its group nobody else ends it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let listener = TcpListener::bind(address).unwrap();
    std::fs::write("port", listener.local_addr().unwrap().port().to_string()).unwrap();
    loop {
        std::thread::park();
    }
}

async fn listen(address: &str, wrapper: Option<&str>) -> (Child, u16) {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let mut spec = match wrapper {
        None => program(Arc::new(seal(&own, None).unwrap()), &["listener", "--exact", "helper_listener"]),
        Some(wrapper) => sh(&format!("{wrapper} {} --exact helper_listener & wait", own.display())),
    };
    spec.cwd = folder.path().to_owned();
    spec.env = vec![("TEST_LISTEN".into(), address.into())];
    let child = run(&quiet_spawner(), spec).await;
    let file = folder.path().join("port");
    until("it listens", || read_number(&file).is_some()).await;
    let port = read_number(&file).unwrap();
    (child, u16::try_from(port).unwrap())
}

#[tokio::test]
async fn f27_a_childs_own_socket_is_its_own_on_every_address() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let (child, port) = listen(address, None).await;
        assert_eq!(owner_of_port(port, child.identity()), Ownership::Owned, "{address}");
    }
}

#[tokio::test]
async fn f27_a_socket_of_a_childs_child_is_its_own_even_outside_the_group() {
    for wrapper in ["", "setsid"] {
        let (child, port) = listen("127.0.0.1:0", Some(wrapper)).await;
        assert_eq!(owner_of_port(port, child.identity()), Ownership::Owned, "{wrapper:?}");
    }
}

#[tokio::test]
async fn f27_a_strangers_socket_is_foreign_and_none_is_none() {
    let (child, port) = listen("127.0.0.1:0", None).await;
    let other = run(&quiet_spawner(), sh("exec sleep 1000")).await;
    assert_eq!(owner_of_port(port, other.identity()), Ownership::Foreign);

    let mine = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mine.local_addr().unwrap().port();
    assert_eq!(owner_of_port(port, child.identity()), Ownership::Foreign);
    drop(mine);
    assert_eq!(owner_of_port(port, child.identity()), Ownership::NotListening);
}

/// What a shell finds of a socket that was handed over, and that another process finds nothing of it.
const LOOK: &str =
    "echo $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID == $$)); /usr/bin/readlink /proc/$$/fd/3; exec sleep 1000";

#[tokio::test]
async fn f27_a_socket_that_is_handed_over_is_the_childs_alone() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = PortAllocator::new(PortRange::new(free, free).unwrap());
    let (lease, socket) = ports.listen().unwrap();
    let inode = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let spawner = quiet_spawner();
    let mut spec = sh(LOOK);
    spec.listener = Some(Arc::new(socket));
    let child = run(&spawner, spec).await;
    until("it has looked", || child.output().tail(9).len() == 2).await;
    assert_eq!(child.output().tail(9), ["1 http 1".to_owned(), inode.to_str().unwrap().to_owned()]);
    assert_eq!(owner_of_port(lease.port(), child.identity()), Ownership::Owned);
    // Nobody accepts, and yet nobody is refused: what comes waits for the program.
    let client = TcpStream::connect(("127.0.0.1", lease.port())).unwrap();

    // One that is started beside it, and one that is only asked something, are told and given nothing.
    let other = run(&spawner, sh(LOOK)).await;
    until("it has looked", || other.output().tail(9).len() == 1).await;
    assert_eq!(other.output().tail(9), ["0"]);
    let said = oneshot::run(&spawner, &shell(), &["-c", LOOK_ONCE], SOON).await.unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), "none");
    assert_eq!(owner_of_port(lease.port(), other.identity()), Ownership::Foreign);

    child.signal(Signal::SIGKILL).unwrap();
    child.exited().await;
    until("the port is free again", || TcpStream::connect(("127.0.0.1", lease.port())).is_err()).await;
    drop((client, lease));
}

const LOOK_ONCE: &str = "echo ${LISTEN_FDS:-none}$LISTEN_PID$LISTEN_FDNAMES";
