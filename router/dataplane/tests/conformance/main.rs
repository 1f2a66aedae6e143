//! The data plane under suites that nobody here wrote. Run by `tests/conformance`, which has them built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "what the end-to-end tests share, of which this needs a part")]
#[path = "../e2e/common.rs"]
mod common;

use std::net::SocketAddr;
use std::process::Output;

use router_dataplane::{Listener, TlsIdentity};
use tokio::process::Command;

use crate::common::*;

/// What h2spec expects otherwise of a port on which HTTP/1 is spoken too: whoever sends no preface of HTTP/2 is
/// answered in HTTP/1, and let go.
const WITHOUT_TLS: &str = "Sends invalid connection preface";

async fn h2spec(address: SocketAddr, more: &[&str]) -> Output {
    let program = std::env::var_os("H2SPEC").expect("H2SPEC is the path of h2spec");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let args = ["-h", &host, "-p", &port, "-P", "/devshard/v1/x", "-o", "5"];
    Command::new(program).args(args).args(more).output().await.unwrap()
}

/// How many cases were run, and which of them failed.
fn read(output: &Output) -> (usize, Vec<String>) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.lines().rev().find(|line| line.contains(" tests, ")).unwrap_or_else(|| panic!("{text}"));
    let count = sum.split(' ').next().unwrap().parse().unwrap();
    println!("h2spec: {sum}");
    // Each failure stands in the list at the end once more.
    let list = text.rsplit("Failures:").next().filter(|list| list.len() < text.len()).unwrap_or_default();
    let failed = list.lines().filter_map(|line| line.trim().strip_prefix('×'));
    (count, failed.map(|line| line.trim().split_once(": ").unwrap().1.to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn h2spec_finds_nothing_that_is_not_meant() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let secure = socket.local_addr().unwrap();
    let tls = Some(TlsIdentity::read(&certificate, &key).unwrap());
    let rig = Rig::listening(|_| {}, vec![Listener { socket, tls }]);
    rig.publish(named("hello").await);

    let (count, failed) = read(&h2spec(secure, &["-t", "-k"]).await);
    assert!(count > 140, "{count}");
    assert!(failed.is_empty(), "{failed:?}");
    let (count, failed) = read(&h2spec(rig.address, &[]).await);
    assert!(count > 140, "{count}");
    assert_eq!(failed, [WITHOUT_TLS]);
}
