//! A devshardd by itself.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::supervisor::config::pick_ports;

const WITHIN: Duration = Duration::from_secs(20);

/// One that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct Host {
    pub address: SocketAddr,
    child: Child,
    _folder: Option<TempDir>,
}

impl Host {
    /// Starts one with these settings beside those of a host that is alone.
    pub fn start(program: &Path, settings: &[(&str, String)]) -> anyhow::Result<Host> {
        let folder = TempDir::new()?;
        let key = folder.path().join("key");
        std::fs::write(&key, "11".repeat(32))?;
        let settings = [settings, &[("DEVSHARD_KEY_FILE", key.display().to_string())]].concat();
        let mut host = Host::start_in(program, folder.path(), free_address()?, &settings)?;
        host._folder = Some(folder);
        Ok(host)
    }

    /// Starts one at an address, with what it keeps in a folder.
    pub fn start_in(
        program: &Path,
        folder: &Path,
        address: SocketAddr,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Host> {
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .args(["--port", &address.port().to_string(), "--data-dir"])
            .arg(folder)
            .arg("--admin")
            .arg(folder.join("admin.sock"))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let mut host = Host { address, child, _folder: None };
        let begun = Instant::now();
        // It listens before it is ready; its routes are there when its admin socket says so, and `/clock` with them.
        while !answers(address) {
            let said = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            ensure!(host.child.try_wait()?.is_none(), "devshardd has ended: {}", said());
            ensure!(begun.elapsed() < WITHIN, "devshardd does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(host)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// An address that nobody else picks.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(pick_ports()?.0)
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(address: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /clock HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
