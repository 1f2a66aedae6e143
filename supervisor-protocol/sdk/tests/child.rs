//! The example child as a real process: what it offers, how it drains, how it ends.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use support::{Answer, NONCE, Running, eventually, example, exchange};

const SERVE: &[&str] = &["--port", "0"];

fn child() -> Running {
    Running::start(&example("child"), SERVE, &[])
}

#[test]
fn it_describes_itself_and_names_what_it_does_not_know() {
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let output = Command::new(example("child")).args(args).envs(env.iter().copied()).output().unwrap();
        (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let (code, stdout, _) = run(&["--describe"], &[]);
    let described: supervisor_sdk::Describe = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((code, described.contract, described.undrain), (Some(0), 1, true));
    for flag in ["--print-binary-version", "--frobnicate"] {
        let (code, stdout, stderr) = run(&[flag], &[]);
        assert!(code == Some(64) && stdout.is_empty() && stderr.contains(flag), "{stderr}");
    }
    // f36: a duration without unit, or zero, has no silent default.
    for grace in ["600", "0s"] {
        let (code, ..) = run(&["--port", "0"], &[("SUPERVISOR_SHUTDOWN_GRACE", grace)]);
        assert_eq!(code, Some(64), "{grace}");
    }
}

#[test]
fn f27_readiness_echoes_the_nonce_and_liveness_is_not_counted() {
    let child = child();
    let ready = child.admin("GET", "/ready", "");
    assert_eq!((ready.status, ready.json()["nonce"].as_str()), (200, Some(NONCE)));
    assert_eq!(child.get("/healthz").status, 200);
    assert_eq!(child.admin("GET", "/healthz", "").status, 200);
    assert!(child.admin("GET", "/metrics", "").text().contains("\nchild_admitted_total 0\n"));
    assert_eq!(child.get("/hello").text(), "hello");
    assert!(child.admin("GET", "/metrics", "").text().contains("\nchild_admitted_total 1\n"));
}

#[test]
fn f27_a_socket_that_was_handed_to_this_process_is_served_on_and_no_other() {
    for (pid, is_meant) in [("$$", true), ("1", false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let own = listener.local_addr().unwrap();
        let script = format!("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$0\" --port 0");
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(example("child"))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        let is_served = said.trim_end().ends_with(&format!("listening on {own}"));
        let answer = is_served.then(|| exchange(&mut TcpStream::connect(own).unwrap(), "GET", "/healthz", &[], b""));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(answer.map(|answer| answer.status), is_meant.then_some(200), "{said}");
    }
}

// F01, F10: what was admitted before the drain is counted, and comes to its own end.
#[test]
fn f01_f10_a_drain_refuses_what_is_new_and_keeps_what_it_has() {
    let child = child();
    let stream = child.open("/ticks/40", "id: 0");
    assert_eq!(child.inflight("stream"), 1);
    let answer = child.admin("POST", "/drain", r#"{"mode":"all"}"#);
    assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("draining")));

    let ready = child.admin("GET", "/ready", "");
    assert_eq!(
        (ready.status, ready.json()["ready"].as_bool(), ready.json()["draining"].as_bool()),
        (503, Some(true), Some(true))
    );
    let refused = child.get("/hello");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["versiond-not-admitted"], format!("draining; nonce={NONCE}"));
    assert_eq!(child.ask("GET", "/hello", &["versiond-last-resort: 1"], b"").status, 200);
    assert_eq!(child.get("/healthz").status, 200);

    let whole = stream.rest();
    assert_eq!(whole.text().matches("data: tick").count(), 40);
    eventually("drained", || child.status()["state"] == "drained");
    assert_eq!(child.admin("DELETE", "/drain", "").json()["state"], "serving");
    assert_eq!((child.get("/hello").status, child.admin("GET", "/ready", "").status), (200, 200));
}

#[test]
fn a_mode_that_is_not_offered_or_a_body_that_is_not_the_contracts_changes_nothing() {
    let child = child();
    for body in [r#"{"mode":"sessions"}"#, r#"{"mode":"some"}"#, "{", r#"{"made":"all"}"#] {
        assert_eq!(child.admin("POST", "/drain", body).status, 400, "{body}");
        assert_eq!(child.status()["state"], "serving", "{body}");
    }
}

#[test]
fn each_class_of_work_is_counted_as_what_it_is_until_it_ends() {
    let child = child();
    let mut job = child.connect();
    job.write_all(b"POST /jobs/300 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
    eventually("a job", || child.inflight("job") == 1);
    let stream = child.open("/ticks/1000", "id: 0");
    let mut socket = child.connect();
    socket
        .write_all(
            b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut upgraded = support::Stream { socket, read: Vec::new() };
    upgraded.until("\r\n\r\n");
    assert!(upgraded.read.starts_with(b"HTTP/1.1 101"));
    let status = child.status();
    assert_eq!((&status["by_class"]["stream"], &status["by_class"]["upgrade"]), (&1.into(), &1.into()));
    assert!(status["by_class"]["request"] == 0 && status["oldest_ms"].is_u64());

    let mut done = Vec::new();
    job.read_to_end(&mut done).unwrap();
    assert_eq!(Answer::parse(&done).text(), "done");
    // One masked text frame, "hi", and its echo: the upgraded connection works and is still counted.
    upgraded.socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
    let mut echo = [0; 4];
    upgraded.socket.read_exact(&mut echo).unwrap();
    assert_eq!((&echo, child.inflight("upgrade")), (&[0x81, 2, b'h', b'i'], 1));
    // F55: whoever hangs up ends the lease.
    drop((upgraded, stream));
    eventually("f55: nothing in flight", || child.status()["inflight"] == 0);
}

#[test]
fn f43_nobody_outside_the_machine_can_drain() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Running::start(&example("child"), SERVE, &[("PROBE_ADDR", &free.to_string())]);
    for path in ["/ready", "/drain/status", "/metrics"] {
        assert_eq!(child.get(path).status, 404, "{path} on the data listener");
        let probe = exchange(&mut TcpStream::connect(free).unwrap(), "GET", path, &[], b"");
        assert_eq!(probe.status, 200, "{path} on the probe listener");
    }
    for method in ["POST", "DELETE"] {
        assert_eq!(child.ask(method, "/drain", &[], b"").status, 404);
        assert_eq!(exchange(&mut TcpStream::connect(free).unwrap(), method, "/drain", &[], b"").status, 404);
    }
    assert_eq!(child.status()["state"], "serving");
}

#[test]
fn drain_and_wait_returns_when_the_last_stream_has_ended() {
    let child = child();
    let drain = |timeout: &[&str]| {
        let mut command = Command::new(example("child"));
        command.args(["--drain", "--wait", "--admin"]).arg(&child.admin).args(timeout);
        command.stderr(Stdio::null()).status().unwrap().code()
    };
    let stream = child.open("/ticks/40", "id: 0");
    assert_eq!(drain(&["--timeout", "50ms"]), Some(3));
    let reader = std::thread::spawn(move || stream.rest().text().matches("data: tick").count());
    assert_eq!(drain(&[]), Some(0));
    assert_eq!(child.status()["state"], "drained");
    assert_eq!(reader.join().unwrap(), 40);
    let nobody = Command::new(example("child")).args(["--drain", "--admin", "/nowhere/a.sock"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
}

// F69: an idle connection is not closed under a request that is on its way.
#[test]
fn f69_a_stop_lets_the_stream_end_refuses_what_comes_and_exits_clean() {
    let mut child = child();
    let stream = child.open("/ticks/40", "id: 0");
    let mut idle = child.connect();
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = support::Stream { socket: idle, read: Vec::new() };
    first.until("hello");
    child.signal("-TERM");
    // F35: a second one does not force.
    child.signal("-TERM");
    eventually("no new connections", || TcpStream::connect(("127.0.0.1", child.port)).is_err());
    let late = exchange(&mut first.socket, "POST", "/jobs/1", &[], b"");
    assert_eq!(late.headers["versiond-not-admitted"], format!("stopping; nonce={NONCE}"));
    assert_eq!(child.admin("DELETE", "/drain", "").status, 409);
    assert_eq!(stream.rest().text().matches("data: tick").count(), 40);
    assert_eq!(child.wait().code(), Some(0));
    assert!(!child.admin.exists());
}

#[test]
fn a_grace_that_runs_out_is_a_failure() {
    let mut child = Running::start(&example("child"), SERVE, &[("SUPERVISOR_SHUTDOWN_GRACE", "100ms")]);
    let _stream = child.open("/ticks/100000", "id: 0");
    child.signal("-TERM");
    assert_eq!(child.wait().code(), Some(1));
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(folder.path().join("admin.sock")).unwrap());
    let child = Running::start_in(folder, &example("child"), SERVE, &[]);
    let second = Command::new(example("child")).args(SERVE).env("SUPERVISOR_ADMIN", &child.admin).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(child.admin("GET", "/ready", "").json()["nonce"], NONCE);
}

#[test]
fn a_refused_upload_reads_its_refusal() {
    let child = child();
    child.admin("POST", "/drain", "");
    let body = vec![b'x'; 700 * 1024];
    let refused = child.ask("POST", "/jobs/1", &[], &body);
    assert_eq!(refused.headers["versiond-not-admitted"], format!("draining; nonce={NONCE}"));
}

#[test]
fn a_client_that_closes_its_half_still_gets_the_whole_answer() {
    let child = child();
    let mut socket = child.connect();
    socket.write_all(b"POST /jobs/300 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(support::Stream { socket, read: Vec::new() }.rest().text(), "done");
}

// F57: the proxy keeps idle connections for 5 s. A POST sent on one after that must not meet a close of ours.
#[test]
fn f57_a_connection_that_was_idle_for_longer_than_the_proxy_keeps_one_still_answers() {
    let child = child();
    let mut socket = child.connect();
    socket.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut stream = support::Stream { socket, read: Vec::new() };
    stream.until("hello");
    // The time itself is what is tested.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(exchange(&mut stream.socket, "POST", "/jobs/1", &[], b"").text(), "done");
}
