//! The router and the proxies that it is compared with, each before the same origins.
//!
//! Must not live here: what is asked of them, or measured.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a proxy may take to listen.
const WITHIN: Duration = Duration::from_secs(20);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Ours,
    HaProxy,
    Nginx,
}

/// What one is started with.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Of the run: configurations and sockets go there.
    pub folder: &'a Utf8Path,
    pub listen: SocketAddr,
    pub origins: &'a [SocketAddr],
    pub threads: usize,
    /// The CPUs that it may use, as `taskset` has them.
    pub cpus: Option<&'a str>,
    /// A certificate and its key in one PEM file: TLS is spoken, with HTTP/2 for those who ask for it.
    pub tls: Option<&'a Utf8Path>,
    /// HTTP/2 without TLS, by prior knowledge.
    pub http2: bool,
}

/// One that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    kind: Kind,
    child: Child,
    control: Control,
}

/// By what a proxy is told to drain an origin.
#[derive(Debug)]
enum Control {
    /// The admin API.
    Admin(SocketAddr),
    /// The runtime API.
    Socket(Utf8PathBuf),
    /// The configuration, read again.
    Configuration(Utf8PathBuf),
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Ours, Kind::HaProxy, Kind::Nginx];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Ours => "versiond-router",
            Kind::HaProxy => "haproxy",
            Kind::Nginx => "nginx",
        }
    }

    /// Where its program is, if it is installed. Ours lies in the folder of the release.
    #[must_use]
    pub fn program(self, release: &Path) -> Option<PathBuf> {
        let usual = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let folders = match self {
            Kind::Ours => vec![release.to_owned()],
            Kind::HaProxy | Kind::Nginx => usual.map(PathBuf::from).to_vec(),
        };
        folders.into_iter().map(|folder| folder.join(self.name())).find(|path| path.is_file())
    }
}

impl Peer {
    /// Starts one, and waits until it listens.
    pub fn start(kind: Kind, release: &Path, setup: &Setup<'_>) -> anyhow::Result<Peer> {
        let program = kind.program(release).with_context(|| format!("{} is not installed", kind.name()))?;
        let log = setup.folder.join(format!("{}.log", kind.name()));
        let mut command = match setup.cpus {
            Some(cpus) => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", cpus]).arg(program);
                pinned
            }
            None => Command::new(program),
        };
        let (arguments, control) = match kind {
            Kind::Ours => ours(setup)?,
            Kind::HaProxy => haproxy(setup)?,
            Kind::Nginx => nginx(setup)?,
        };
        let output = fs::File::create(&log)?;
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} cannot be started", kind.name()))?;
        let mut peer = Peer { kind, child, control };
        let begun = Instant::now();
        while TcpStream::connect(setup.listen).is_err() {
            let ended = peer.child.try_wait()?;
            let said = || fs::read_to_string(&log).unwrap_or_default();
            ensure!(ended.is_none(), "{} has ended: {}", kind.name(), said());
            ensure!(begun.elapsed() < WITHIN, "{} does not listen: {}", kind.name(), said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }

    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Lets no more sessions go to this origin; what runs there goes on.
    pub fn drain(&self, origin: SocketAddr, number: usize) -> anyhow::Result<()> {
        match &self.control {
            Control::Admin(address) => {
                let mut stream = TcpStream::connect(address)?;
                write!(
                    stream,
                    "PUT /v1/hosts/s{number}/drain HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
                )?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                ensure!(answer.starts_with("HTTP/1.1 2"), "the router does not drain: {answer}");
            }
            Control::Socket(path) => {
                let mut stream = UnixStream::connect(path)?;
                writeln!(stream, "set server b/s{number} state drain")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                ensure!(answer.trim().is_empty(), "haproxy does not drain: {answer}");
            }
            Control::Configuration(path) => {
                let text = fs::read_to_string(path)?;
                let server = format!("server {origin};");
                ensure!(text.contains(&server), "nginx has no {server}");
                fs::write(path, text.replace(&server, &format!("server {origin} down;")))?;
                kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGHUP)?;
            }
        }
        Ok(())
    }

    /// The processes that it is: the first and those below it.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut at = 0;
        while at < all.len() {
            let pid = all[at];
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            at += 1;
        }
        all
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A master takes its workers along when it is asked.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(setup: &Setup<'_>) -> anyhow::Result<(Vec<String>, Control)> {
    let path = setup.folder.join("router.toml");
    let hosts: Vec<String> =
        setup.origins.iter().enumerate().map(|(at, address)| format!("\"s{at}={address}\"")).collect();
    // Without TLS both versions are spoken at one port; with it the plain port is another.
    let (listen, tls) = match setup.tls {
        None => (setup.listen.to_string(), String::new()),
        Some(pem) => (
            "127.0.0.1:0".to_owned(),
            format!("[router.tls]\nlisten = \"{}\"\ncertificate = \"{pem}\"\nkey = \"{pem}\"\n", setup.listen),
        ),
    };
    // Free at this moment; nobody else is told of it.
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = format!(
        "[router]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nthreads = {}\nannounce = \"none\"\n{tls}\
         [limits]\nconnections = 19900\n\
         [[route]]\nmatch = \"/v1/sessions/{{session}}/*\"\npool = \"all\"\nkey = \"{{session}}\"\n\
         [[route]]\nmatch = \"/*\"\npool = \"all\"\n\
         [pool.all]\nhosts = [{}]\ncheck = \"tcp\"\n",
        setup.threads,
        hosts.join(", ")
    );
    fs::write(&path, text)?;
    Ok((vec!["--config".to_owned(), path.into_string()], Control::Admin(admin)))
}

fn haproxy(setup: &Setup<'_>) -> anyhow::Result<(Vec<String>, Control)> {
    let path = setup.folder.join("haproxy.cfg");
    let servers: String =
        setup.origins.iter().enumerate().map(|(at, address)| format!("    server s{at} {address}\n")).collect();
    let how = match (setup.tls, setup.http2) {
        (Some(pem), _) => format!(" ssl crt {pem} alpn h2,http/1.1"),
        (None, true) => " proto h2".to_owned(),
        (None, false) => String::new(),
    };
    let socket = setup.folder.join("haproxy.sock");
    // Without `http-no-delay` an event of a chunked stream waits for 200 ms.
    let text = format!(
        "global\n    nbthread {}\n    maxconn 9900\n    stats socket {socket} level admin\ndefaults\n    mode http\n    timeout client 10m\n    \
         timeout server 10m\n    timeout connect 5s\n    timeout http-keep-alive 10m\n    option http-keep-alive\n    \
         http-reuse always\n    option http-no-delay\n    option forwardfor\nfrontend f\n    bind {}{how}\n    \
         default_backend b\nbackend b\n    balance hash path,field(4,/)\n    hash-type consistent\n{servers}",
        setup.threads, setup.listen
    );
    fs::write(&path, text)?;
    Ok((vec!["-db".to_owned(), "-f".to_owned(), path.into_string()], Control::Socket(socket)))
}

fn nginx(setup: &Setup<'_>) -> anyhow::Result<(Vec<String>, Control)> {
    let (folder, path) = (setup.folder, setup.folder.join("nginx.conf"));
    let servers: String = setup.origins.iter().map(|address| format!("server {address}; ")).collect();
    let (how, tls) = match (setup.tls, setup.http2) {
        (Some(pem), _) => (" ssl http2", format!("ssl_certificate {pem}; ssl_certificate_key {pem};")),
        (None, true) => (" http2", String::new()),
        (None, false) => ("", String::new()),
    };
    let text = format!(
        "worker_processes {threads};\ndaemon off;\nmaster_process on;\npid {folder}/nginx.pid;\n\
         error_log {folder}/nginx.err warn;\nworker_rlimit_nofile 20000;\nevents {{ worker_connections 19900; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n  \
         fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n  \
         client_max_body_size 0; large_client_header_buffers 8 64k;\n  \
         keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;\n  \
         map $uri $sid {{ ~^/[^/]+/sessions/([^/]+) $1; default $uri; }}\n  \
         upstream b {{ hash $sid consistent; {servers} keepalive 1024; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {listen}{how}; {tls}\n    location / {{\n      proxy_pass http://b;\n      \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n      \
         proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;\n    }}\n  }}\n}}\n",
        threads = setup.threads,
        listen = setup.listen,
    );
    fs::write(&path, text)?;
    let arguments = vec!["-c".to_owned(), path.to_string(), "-p".to_owned(), folder.to_string()];
    Ok((arguments, Control::Configuration(path)))
}
