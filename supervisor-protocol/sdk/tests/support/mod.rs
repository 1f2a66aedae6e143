//! A child as a real process, and HTTP/1.1 by hand: what a test sends and receives is what is on the wire.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "it runs in tests alone")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes a second; this is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// The nonce that every started child is given.
pub const NONCE: &str = "0123abcd";

/// An example of this package. Cargo builds examples together with the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run the package's tests without `--test`", path.display());
    path
}

/// A running child; killed when dropped.
pub struct Running {
    process: Child,
    /// 0 when it listens nowhere.
    pub port: u16,
    pub admin: PathBuf,
    pub folder: tempfile::TempDir,
}

impl Running {
    /// Starts `program` as a supervisor would and waits until it could serve.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let running = Self::start_in(tempfile::tempdir().unwrap(), program, args, env);
        eventually("it is ready", || running.admin("GET", "/ready", "").json()["ready"] == true);
        running
    }

    /// The same, in a folder of the caller's; waits only until it listens.
    pub fn start_in(folder: tempfile::TempDir, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let admin = folder.path().join("admin.sock");
        let mut process = Command::new(program)
            .args(args)
            .arg("--data-dir")
            .arg(folder.path())
            .env("SUPERVISOR_CONTRACT", "1")
            .env("SUPERVISOR_SERVICE", "example")
            .env("SUPERVISOR_VERSION", "v1")
            .env("SUPERVISOR_GENERATION", "7")
            .env("SUPERVISOR_NONCE", NONCE)
            .env("SUPERVISOR_ADMIN", &admin)
            .env("SUPERVISOR_SHUTDOWN_GRACE", "20s")
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut port = 0;
        if args.contains(&"--port") {
            let line = lines.next().expect("the child ended before it listened");
            port = line.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
        }
        std::thread::spawn(move || lines.for_each(|line| eprintln!("  {line}")));
        let running = Self { process, port, admin, folder };
        eventually("the admin socket answers", || UnixStream::connect(&running.admin).is_ok());
        running
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends one request to the data listener.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        exchange(&mut self.connect(), method, path, headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends one request to the admin socket.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        exchange(&mut UnixStream::connect(&self.admin).unwrap(), method, path, &[], body.as_bytes())
    }

    /// `GET /drain/status`.
    pub fn status(&self) -> Value {
        self.admin("GET", "/drain/status", "").json()
    }

    /// In flight of one class.
    pub fn inflight(&self, class: &str) -> u64 {
        self.status()["by_class"][class].as_u64().unwrap()
    }

    /// Opens `GET path` and returns the reader once `first` has been read.
    pub fn open(&self, path: &str, first: &str) -> Stream {
        let mut socket = self.connect();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut stream = Stream { socket, read: Vec::new() };
        stream.until(first);
        stream
    }

    pub fn signal(&self, signal: &str) {
        // The shell's own: no need of a crate for one call.
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the child ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A response that is still coming.
pub struct Stream {
    pub socket: TcpStream,
    pub read: Vec<u8>,
}

impl Stream {
    /// Reads until `marker` has been seen.
    pub fn until(&mut self, marker: &str) {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&self.read).contains(marker) {
            let count = self.socket.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "ended before {marker:?}: {}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads to the end.
    pub fn rest(mut self) -> Answer {
        self.socket.read_to_end(&mut self.read).unwrap();
        Answer::parse(&self.read)
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("a response head");
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if chunked { dechunk(&raw[end + 4..]) } else { raw[end + 4..].to_vec() };
        Self { status, headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

/// Fails unless the body ends as a whole one does.
fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = raw.windows(2).position(|two| two == b"\r\n").expect("a whole chunked body");
        let length = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&raw[line + 2..line + 2 + length]);
        raw = &raw[line + 4 + length..];
    }
}

pub fn exchange(stream: &mut (impl Read + Write), method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    Answer::parse(&raw)
}

/// Asks until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
