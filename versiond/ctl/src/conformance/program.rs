//! The program under check: run to its end, or started, asked and stopped.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use rand::RngExt;
use serde::de::DeserializeOwned;
use supervisor_protocol::contract::{DrainStatus, Ready};
use supervisor_protocol::{Nonce, env};
use tempfile::TempDir;
use tokio::process::Command;

use super::Options;
use super::process::Process;
use crate::wire::{Answer, Place, ask};

/// A question on the command line is answered within it, or it counts as unanswered.
const PROBE: Duration = Duration::from_secs(10);
/// One answer over HTTP.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// What the program is told it may take after its stop signal.
pub(super) const GRACE: Duration = Duration::from_secs(20);
/// Of a failed program's output so much is shown, from its end.
const TAIL: usize = 300;

/// How a program answered on the command line.
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs the program with one flag, in an empty folder, to its end.
pub(super) async fn probe(options: &Options, flag: &str) -> io::Result<Result<Output, String>> {
    let (folder, printed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (stdout, stderr) = (printed.path().join("stdout"), printed.path().join("stderr"));
    let mut command = bare(options, &folder)?;
    command.arg(flag).stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    let mut process = match Process::spawn(command) {
        Ok(process) => process,
        Err(error) => return Ok(Err(format!("cannot be executed: {error}"))),
    };
    match process.wait(PROBE).await? {
        Some(status) => Ok(Ok(Output { status, stdout: std::fs::read(stdout)?, stderr: std::fs::read(stderr)? })),
        None => Ok(Err(format!("still running after {} s", PROBE.as_secs()))),
    }
}

/// A program that has been started as a child. Killed, with its group, when dropped.
pub(super) struct Program {
    pub(super) process: Process,
    folder: TempDir,
    pub(super) port: u16,
    pub(super) nonce: Nonce,
    pub(super) data: Place,
    admin: Place,
}

impl Program {
    pub(super) fn start(options: &Options) -> io::Result<Result<Self, String>> {
        let folder = tempfile::tempdir()?;
        let data_dir = folder.path().join("data");
        std::fs::create_dir(&data_dir)?;
        let output = File::create(folder.path().join("output"))?;
        // Free at this moment; nobody else is told of it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let nonce = format!("{:032x}", rand::rng().random::<u128>());
        let nonce = Nonce::new(nonce).map_err(io::Error::other)?;
        let socket = folder.path().join("admin.sock");
        let mut command = bare(options, &folder)?;
        command
            .arg("--port")
            .arg(port.to_string())
            .arg("--data-dir")
            .arg(&data_dir)
            .args(&options.args)
            .env(env::CONTRACT, "1")
            .env(env::SERVICE, "conformance")
            .env(env::VERSION, "v1")
            .env(env::GENERATION, "1")
            .env(env::NONCE, nonce.as_str())
            .env(env::ADMIN, &socket)
            .env(env::DATA_DIR, &data_dir)
            .env(env::SHUTDOWN_GRACE, format!("{}s", GRACE.as_secs()))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(match Process::spawn(command) {
            Ok(process) => Ok(Self {
                process,
                folder,
                port,
                nonce,
                data: Place::Tcp(SocketAddr::from(([127, 0, 0, 1], port))),
                admin: Place::Unix(socket),
            }),
            Err(error) => Err(format!("cannot be executed: {error}")),
        })
    }

    /// The end of what it has printed.
    pub(super) fn output(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).trim().replace('\n', " | ");
        if text.is_empty() { "it printed nothing".to_owned() } else { format!("it printed: {text}") }
    }

    pub(super) async fn admin(&self, method: Method, path: &str) -> Result<Answer, String> {
        let body = if method == Method::POST { r#"{"mode":"all"}"# } else { "" };
        self.ask(&self.admin, method, path, &[], body).await
    }

    pub(super) async fn public(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.ask(&self.data, method, path, headers, "").await
    }

    /// `GET /ready`, with its status.
    pub(super) async fn ready(&self) -> Result<(u16, Ready), String> {
        let answer = self.admin(Method::GET, "/ready").await?;
        Ok((answer.status.as_u16(), read("/ready", &answer)?))
    }

    /// `GET /drain/status`.
    pub(super) async fn drain_status(&self) -> Result<DrainStatus, String> {
        let answer = self.admin(Method::GET, "/drain/status").await?;
        if !answer.status.is_success() {
            return Err(format!("GET /drain/status answers {}", answer.status));
        }
        read("/drain/status", &answer)
    }

    async fn ask(
        &self,
        place: &Place,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Answer, String> {
        let what = format!("{method} {path}");
        ask(place, method, path, headers, body, ANSWER).await.map_err(|error| {
            let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            format!("{what}: {error}{source}")
        })
    }
}

fn read<T: DeserializeOwned>(path: &str, answer: &Answer) -> Result<T, String> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let body = String::from_utf8_lossy(&answer.body);
        format!(
            "GET {path} answers {} with a body that is not the contract's ({error}): {}",
            answer.status,
            body.trim()
        )
    })
}

/// The program in a folder of its own, with nothing of our environment but `PATH`.
fn bare(options: &Options, folder: &TempDir) -> io::Result<Command> {
    let named = options.program.as_std_path();
    // What has no slash is looked up in PATH, as a shell does.
    let program: PathBuf = if named.components().count() > 1 { std::path::absolute(named)? } else { local(named)? };
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder.path()).env("HOME", folder.path());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    Ok(command)
}

/// A bare name means the file of that name here, when there is one.
fn local(named: &std::path::Path) -> io::Result<PathBuf> {
    if named.exists() { std::path::absolute(named) } else { Ok(named.to_path_buf()) }
}
