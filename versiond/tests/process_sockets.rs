//! Whose socket answers on a port. The child that listens is this test program, run again.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::net::TcpListener;
use std::sync::Arc;

use process_support::*;
use versiond::process::seal;
use versiond::process::sockets::{Ownership, owner_of_port};

/// Not a test but a child that listens where it is told to.
#[test]
fn helper_listener() {
    let Ok(address) = std::env::var("TEST_LISTEN") else { return };
    // Outside its group nobody else ends it.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
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
