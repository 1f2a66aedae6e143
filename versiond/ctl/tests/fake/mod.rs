//! A daemon's admin socket that answers what a test tells it to, and remembers what it was asked. A router's admin
//! port is in `port`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

/// Answers `(method, path with query)` with a status and a body.
pub type Answer = Box<dyn Fn(&str, &str) -> (u16, Value) + Send>;

pub struct Daemon {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub fn answering(answer: impl Fn(&str, &str) -> (u16, Value) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Answer, _) = (Box::new(answer), Arc::clone(&asked));
        // It ends with the test's process; each connection carries one request.
        std::thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|stream| exchange(stream, &answer, &log));
        });
        Self { folder, asked }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// The requests so far, as `METHOD path` and the body, if there is one.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = versionctl(args);
        command.env("VERSIOND_ADMIN", self.socket());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::of(&self.command(args).output().unwrap())
    }
}

/// One request of one connection.
pub fn exchange(stream: impl Read + Write, answer: &Answer, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).unwrap();
    let mut token = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.strip_prefix("authorization: ") {
            token = format!(" [{}]", value.trim());
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let body = String::from_utf8(body).unwrap();
    log.lock().push(format!("{method} {path}{token} {body}").trim_end().to_owned());
    let (status, body) = answer(method, path);
    // A text as it is, for what is no JSON.
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    // Whoever has been killed meanwhile does not want it any more.
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

pub fn versionctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_versionctl"));
    command.args(args);
    for variable in ["VERSIOND_ADMIN", "VERSIOND_ADMIN_TOKEN_FILE", "VERSIOND_ROUTER", "VERSIOND_ROUTER_TOKEN_FILE"] {
        command.env_remove(variable);
    }
    command
}

/// What came of one command.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}
