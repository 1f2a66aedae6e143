//! The router beside HAProxy and nginx, in one run: repetition by repetition each contender does the same, in turn,
//! before origins in the thread of the load.
//!
//! What counts are the ratios of pairs ([`pairs`]) and the CPU time of a contender's own processes: absolute figures
//! of a machine that others use too are worth little. The router runs twice: how far the two differ is how far two
//! contenders may, and mean nothing.

pub mod drain;
pub mod load;
pub mod origin;
pub mod pairs;
pub mod sections;
pub mod table;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::peer::{Kind, Peer, Setup};
use pairs::{Ratio, median};
use sections::{Contender, Figures};

/// Where requests go in the end.
const ORIGINS: usize = 4;

/// How often, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub repetitions: usize,
    pub window: Duration,
    /// Streams at once.
    pub streams: usize,
}

/// Who takes part. The router does so twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    Ours,
    OursAgain,
    Haproxy,
    Nginx,
    /// The origin itself.
    Direct,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    SmallOneThread,
    SmallTwoThreads,
    Latency,
    Events,
    BulkLength,
    BulkChunked,
    Http2,
    Tls,
    Drain,
}

/// One figure of one contender.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub who: Who,
    pub name: &'static str,
    pub median: f64,
    pub samples: Vec<f64>,
    /// To HAProxy in the same repetitions.
    pub to_haproxy: Option<Ratio>,
    /// Of the router to itself.
    pub to_itself: Option<Ratio>,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Peers {
    pub versions: BTreeMap<&'static str, String>,
    pub cores: usize,
    pub repetitions: usize,
    pub sections: BTreeMap<Section, Vec<Figure>>,
}

impl Who {
    const ALL: [Who; 5] = [Who::Ours, Who::Haproxy, Who::OursAgain, Who::Nginx, Who::Direct];

    const fn kind(self) -> Option<Kind> {
        match self {
            Who::Ours | Who::OursAgain => Some(Kind::Ours),
            Who::Haproxy => Some(Kind::HaProxy),
            Who::Nginx => Some(Kind::Nginx),
            Who::Direct => None,
        }
    }

    /// As it is called in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Who::Ours => "versiond-router",
            Who::OursAgain => "versiond-router, again",
            Who::Haproxy => "haproxy",
            Who::Nginx => "nginx",
            Who::Direct => "direct",
        }
    }
}

impl Section {
    pub const ALL: [Section; 9] = [
        Section::SmallOneThread,
        Section::SmallTwoThreads,
        Section::Latency,
        Section::Events,
        Section::BulkLength,
        Section::BulkChunked,
        Section::Http2,
        Section::Tls,
        Section::Drain,
    ];

    /// As it is called in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Section::SmallOneThread => "small requests, 1 thread, pinned",
            Section::SmallTwoThreads => "small requests, 2 threads",
            Section::Latency => "small requests at a fixed rate",
            Section::Events => "event streams",
            Section::BulkLength => "1 MiB by length, pinned",
            Section::BulkChunked => "1 MiB in chunks, pinned",
            Section::Http2 => "small requests over HTTP/2, pinned",
            Section::Tls => "small requests over TLS, pinned",
            Section::Drain => "a drain under load",
        }
    }

    const fn is_pinned(self) -> bool {
        match self {
            Section::SmallOneThread | Section::BulkLength | Section::BulkChunked | Section::Http2 | Section::Tls => {
                true
            }
            Section::SmallTwoThreads | Section::Latency | Section::Events | Section::Drain => false,
        }
    }

    const fn has_direct(self) -> bool {
        matches!(self, Section::SmallOneThread | Section::SmallTwoThreads | Section::Latency)
    }

    async fn measure(self, contender: &Contender, peer: Option<&Peer>, size: Size) -> anyhow::Result<Figures> {
        match self {
            Section::SmallOneThread | Section::SmallTwoThreads | Section::Tls => {
                sections::small(contender, size.window).await
            }
            Section::Latency => sections::latency(contender, size.window).await,
            Section::Events => sections::events(contender, size.streams, size.window * 4).await,
            Section::BulkLength => sections::bulk(contender, "large", size.window).await,
            Section::BulkChunked => sections::bulk(contender, "chunked", size.window).await,
            Section::Http2 => sections::http2(contender, size.window).await,
            Section::Drain => {
                let peer = peer.context("the origin itself cannot be drained")?;
                drain::drain(contender.address, size.window, |number| {
                    peer.drain(*contender.origins.get(number).context("no such origin")?, number)
                })
                .await
            }
        }
    }
}

/// Measures every section; `say` is told what goes on. Whoever is not installed does not take part.
pub fn run(release: &Path, folder: &Utf8Path, size: Size, say: impl Fn(&str)) -> anyhow::Result<Peers> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let there: Vec<Who> =
        Who::ALL.into_iter().filter(|who| who.kind().is_none_or(|kind| kind.program(release).is_some())).collect();
    for who in Who::ALL.iter().filter(|who| !there.contains(who)) {
        say(&format!("{} is not installed, and takes no part", who.name()));
    }
    let (certificate, both) = identity(folder)?;
    let mut measured = BTreeMap::new();
    for section in Section::ALL {
        say(&format!("{}, {} times", section.name(), size.repetitions));
        let mut samples: BTreeMap<(Who, &'static str), Vec<f64>> = BTreeMap::new();
        for repetition in 0..size.repetitions {
            // In turn, so that whatever comes first in a repetition is not always the same.
            for at in 0..there.len() {
                let who = there[(at + repetition) % there.len()];
                if who == Who::Direct && !section.has_direct() {
                    continue;
                }
                let one = One { who, section, release, folder, certificate: &certificate, both: &both, cores };
                let figures = one.measure(size).with_context(|| format!("{}, {}", section.name(), who.name()))?;
                for (name, value) in figures {
                    samples.entry((who, name)).or_default().push(value);
                }
            }
        }
        if section == Section::Latency {
            added(&mut samples);
        }
        measured.insert(section, figures(&samples));
    }
    Ok(Peers { versions: versions(release, &there), cores, repetitions: size.repetitions, sections: measured })
}

/// One contender in one section.
struct One<'a> {
    who: Who,
    section: Section,
    release: &'a Path,
    folder: &'a Utf8Path,
    certificate: &'a Utf8Path,
    both: &'a Utf8Path,
    cores: usize,
}

impl One<'_> {
    /// In a thread of its own, which may be pinned.
    fn measure(&self, size: Size) -> anyhow::Result<Figures> {
        std::thread::scope(|scope| {
            let measured = scope.spawn(|| {
                let is_pinned = self.section.is_pinned() && self.cores > 1;
                if is_pinned {
                    sections::pin(0)?;
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let origins = origin::serve(ORIGINS).await?;
                    let (contender, peer) = self.contender(&origins, is_pinned.then_some("1"))?;
                    self.section.measure(&contender, peer.as_ref(), size).await
                })
            });
            measured.join().map_err(|_| anyhow::anyhow!("the measurement panicked"))?
        })
    }

    fn contender(&self, origins: &[SocketAddr], cpus: Option<&str>) -> anyhow::Result<(Contender, Option<Peer>)> {
        let Some(kind) = self.who.kind() else {
            let address = *origins.first().context("no origin")?;
            return Ok((Contender { address, origins: origins.to_vec(), pids: Vec::new(), certificate: None }, None));
        };
        // Free at this moment; nobody else is told of it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let is_tls = self.section == Section::Tls;
        let setup = Setup {
            folder: self.folder,
            listen: address,
            origins,
            threads: if self.section == Section::SmallTwoThreads { 2 } else { 1 },
            cpus,
            tls: is_tls.then_some(self.both),
            http2: self.section == Section::Http2,
        };
        let peer = Peer::start(kind, self.release, &setup)?;
        let certificate = is_tls.then(|| self.certificate.to_owned());
        Ok((Contender { address, origins: origins.to_vec(), pids: peer.pids(), certificate }, Some(peer)))
    }
}

/// What each contender has added to the latency of the origin itself.
fn added(samples: &mut BTreeMap<(Who, &'static str), Vec<f64>>) {
    let Some(direct) = samples.get(&(Who::Direct, "p50_us")).cloned() else { return };
    let through: Vec<_> = samples
        .iter()
        .filter(|((who, name), _)| *who != Who::Direct && *name == "p50_us")
        .map(|((who, _), values)| {
            let added = values.iter().zip(&direct).map(|(through, direct)| through - direct).collect();
            ((*who, "added_p50_us"), added)
        })
        .collect();
    samples.extend(through);
}

fn figures(samples: &BTreeMap<(Who, &'static str), Vec<f64>>) -> Vec<Figure> {
    let of = |who, name| samples.get(&(who, name)).map(Vec::as_slice).unwrap_or_default();
    samples
        .iter()
        .map(|((who, name), values)| Figure {
            who: *who,
            name,
            median: median(values).unwrap_or_default(),
            samples: values.clone(),
            to_haproxy: if *who == Who::Haproxy { None } else { Ratio::of(values, of(Who::Haproxy, name)) },
            to_itself: if *who == Who::OursAgain { Ratio::of(values, of(Who::Ours, name)) } else { None },
        })
        .collect()
}

fn versions(release: &Path, there: &[Who]) -> BTreeMap<&'static str, String> {
    let mut versions = BTreeMap::new();
    for kind in there.iter().filter_map(|who| who.kind()) {
        let Some(program) = kind.program(release) else { continue };
        let flag = if kind == Kind::Ours { "--version" } else { "-v" };
        if let Ok(output) = std::process::Command::new(program).arg(flag).output() {
            let said = [output.stdout, output.stderr].concat();
            let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
            versions.insert(kind.name(), line);
        }
    }
    versions
}

/// A certificate, and the same with its key in one file.
fn identity(folder: &Utf8Path) -> anyhow::Result<(Utf8PathBuf, Utf8PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned()])?;
    let (certificate, both) = (folder.join("certificate.pem"), folder.join("identity.pem"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&both, made.cert.pem() + &made.signing_key.serialize_pem())?;
    Ok((certificate, both))
}
