//! Whether a child could serve, and what it still has to do: asked over and over for as long as it lives, in the
//! way that its contract offers.
//!
//! Must not live here: what an answer means for the generation (that is `versiond-core`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use supervisor_protocol::contract::{Ready, Role};
use supervisor_protocol::{Generation, Nonce};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use versiond_core::generation::Probe;
use versiond_core::slot::Input;

use crate::ask::{Line, is_absent};
use crate::process::Running;
use crate::process::sockets::{Ownership, owner_of_port};
use crate::supervisor::child::{Admin, ChildLink, Count, chain};
use crate::supervisor::effects::{Effects, Event};

/// How long a worker that shows nothing else must have lived to count as running.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What is probed.
pub(crate) struct Subject {
    pub(crate) generation: Generation,
    pub(crate) role: Role,
    pub(crate) running: Arc<Running>,
    pub(crate) link: ChildLink,
    pub(crate) nonce: Nonce,
    /// It has served and does not now: it is asked whether it could again, and its drain is no reason against it.
    pub(crate) standby: Arc<AtomicBool>,
    /// It has been found to count nothing of what it does.
    pub(crate) uncounted: Arc<AtomicBool>,
}

/// What the rounds of one generation have found out.
struct Found {
    since: Instant,
    /// Whose sockets they are costs a look at every socket of the machine, and changes only when it fails.
    sockets: Sockets,
    /// The older way to readiness has been told of, once.
    told: bool,
    /// To the admin listener, and to the port that serves, of a child of contract v1.
    admin: Line,
    serving: Line,
    /// What it counts, once it has said so: what a drain of it takes must be known before one begins.
    counts: Option<Count>,
}

/// Whether the sockets are known to be the generation's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sockets {
    Own,
    Unknown,
}

impl Effects {
    /// Asks the child over and over whether it could serve, for as long as it lives.
    pub(crate) async fn watch(self, subject: Subject, tell: mpsc::Sender<Event>) {
        let mut serving = false;
        let mut found = Found {
            since: Instant::now(),
            sockets: Sockets::Unknown,
            told: false,
            admin: Line::Kept(None),
            serving: Line::Kept(None),
            counts: None,
        };
        loop {
            let standby = subject.standby.load(Ordering::Acquire);
            if standby {
                // A child may wait for its connections to end.
                found.serving = Line::Kept(None);
            }
            let probe = self.probe(&subject, standby, &mut found).await.unwrap_or_else(|not| not);
            found.sockets = if probe == Probe::Ready && !standby { Sockets::Own } else { Sockets::Unknown };
            serving = serving || probe == Probe::Ready;
            let probed = if standby { Input::Compared } else { Input::Probed };
            if tell.send(Event::Input(probed(subject.generation, probe))).await.is_err() {
                return;
            }
            let pause = if serving { self.shared.probes.live } else { self.shared.probes.ready };
            tokio::time::sleep(pause).await;
        }
    }

    /// One round. An error is as good an answer as any other: what the round came to before its end.
    async fn probe(&self, subject: &Subject, standby: bool, found: &mut Found) -> Result<Probe, Probe> {
        match subject.link.admin {
            Admin::Socket(_) => self.probe_v1(subject, standby, found).await,
            Admin::Port(admin) => self.probe_older(subject, admin, found).await,
            Admin::Nowhere => self.probe_guest(subject, found).await,
        }
    }

    /// The admin listener with the right nonce *and* the serving path, in one round, and the listening
    /// socket belongs to this generation's own processes (F04, F27). A worker serves no path,
    /// and may say that it drains: it is paused until it is published. So may one that is only compared with.
    async fn probe_v1(&self, subject: &Subject, standby: bool, found: &mut Found) -> Result<Probe, Probe> {
        let Subject { link, nonce, .. } = subject;
        let within = self.shared.probes.timeout;
        let ready = link.ready(&mut found.admin, within).await.map_err(|error| not_ready(chain(&error)))?;
        if ready.nonce.as_ref() != Some(nonce) {
            return Err(not_ready("the admin socket answers with another nonce"));
        }
        if !ready.ready {
            let detail = if ready.reason.is_empty() { "it says that it is not ready".to_owned() } else { ready.reason };
            return Err(if detail == Ready::INITIALIZING || detail.starts_with("initializing") {
                Probe::Initializing { detail }
            } else {
                Probe::NotReady { detail }
            });
        }
        match subject.role {
            Role::Worker => return Ok(Probe::Ready),
            Role::Server if standby => return Ok(Probe::Ready),
            Role::Server => {}
        }
        if ready.draining {
            return Err(not_ready("it says that it drains"));
        }
        own_serving(subject, found.sockets).await?;
        link.serves(&mut found.serving, "/healthz", within).await.map_err(|error| not_ready(chain(&error)))?;
        Ok(Probe::Ready)
    }

    /// An older child: its admin port *and* its serving path. There is no nonce, so that the sockets must be known
    /// to be its own before anything that they say is believed (F27). Without the usual path, and only then, its
    /// health is taken for readiness, and without that a connection.
    async fn probe_older(&self, subject: &Subject, admin: u16, found: &mut Found) -> Result<Probe, Probe> {
        let link = &subject.link;
        let within = self.shared.probes.timeout;
        own_sockets(subject, &[admin, link.port], found.sockets).await?;
        let path = link.ready_path.as_deref().unwrap_or("/ready");
        let (status, body) = link.asked(path, within).await.map_err(|error| not_ready(chain(&error)))?;
        let said = older_readiness(path, link.ready_path.is_some(), status, &body);
        if let Said::Not(probe) = said {
            return Err(probe);
        }
        match link.serves(&mut Line::Fresh, "/healthz", within).await {
            Ok(()) => {}
            Err(error) if said == Said::Absent && error.is_absent() => {
                link.accepts(within).await.map_err(|error| not_ready(chain(&error)))?;
            }
            Err(error) => return Err(not_ready(chain(&error))),
        }
        if said == Said::Absent && !std::mem::replace(&mut found.told, true) {
            let generation = subject.generation;
            tracing::warn!(slot = %self.id, %generation, "it has no /ready: its health, or a connection, is taken for readiness");
        }
        if found.counts.is_none() {
            found.counts = link.drain_status(within).await.ok();
            subject.uncounted.store(found.counts == Some(Count::Unknown), Ordering::Release);
        }
        Ok(Probe::Ready)
    }

    /// A program that knows of no supervisor: its own word on its notification socket where the configuration says
    /// that it gives one; then its path, else a connection, else that it runs.
    async fn probe_guest(&self, subject: &Subject, found: &Found) -> Result<Probe, Probe> {
        let link = &subject.link;
        let within = self.shared.probes.timeout;
        let lived = found.since.elapsed();
        // The operator has said how long it takes: until then it is as if it said so itself.
        let patient = |probe: Probe| match probe {
            Probe::NotReady { detail } if lived < link.start_estimate => Probe::Initializing { detail },
            probe @ (Probe::Ready | Probe::Initializing { .. } | Probe::NotReady { .. }) => probe,
        };
        if let Some(notified) = &link.notified {
            let note = notified.note();
            if !note.ready {
                let said = note.status.map(|status| format!(": {status}")).unwrap_or_default();
                let other = note.stranger.map(|pid| format!("; process {pid}, which is none of it, spoke for it"));
                let detail = format!("it has not said READY=1{said}{}", other.unwrap_or_default());
                let asks = note.until.is_some_and(|until| Instant::now() < until);
                return Err(if asks { Probe::Initializing { detail } } else { patient(not_ready(detail)) });
            }
        }
        if !link.has_port {
            let left = A_MOMENT.saturating_sub(lived);
            let runs = link.notified.is_some() || left.is_zero();
            return if runs { Ok(Probe::Ready) } else { Err(not_ready("it has only just been started")) };
        }
        own_serving(subject, found.sockets).await.map_err(patient)?;
        let answers = match &link.ready_path {
            Some(path) => link.serves(&mut Line::Fresh, path, within).await,
            None => link.accepts(within).await,
        };
        answers.map_err(|error| patient(not_ready(chain(&error))))?;
        Ok(Probe::Ready)
    }

    /// Ends a worker's pause.
    pub(crate) async fn resume(self, generation: Generation, link: ChildLink) {
        while let Err(error) = link.resume(self.shared.probes.timeout).await {
            tracing::warn!(slot = %self.id, %generation, error = chain(&error), "the worker does not begin");
            tokio::time::sleep(self.shared.probes.drain).await;
        }
    }

    /// Tells the child to drain, then counts what it still has, until it has nothing or the drain is taken back. A
    /// call that has begun is waited for, so that none comes after that. A child that counts nothing has no lease any
    /// more when it comes to this; what it does beside is given the stop grace.
    pub(crate) async fn drain_child(
        self,
        generation: Generation,
        link: ChildLink,
        tell: mpsc::Sender<Event>,
        taken_back: CancellationToken,
    ) {
        let within = self.shared.probes.timeout;
        let pause = |pause| taken_back.run_until_cancelled(tokio::time::sleep(pause));
        while let Err(error) = link.drain(within).await {
            tracing::warn!(slot = %self.id, %generation, error = chain(&error), "the child does not take its drain");
            if pause(self.shared.probes.drain).await.is_none() {
                return;
            }
        }
        while !taken_back.is_cancelled() {
            let inflight = match link.drain_status(within).await {
                Ok(Count::Inflight(inflight)) => Some(inflight),
                Ok(Count::Unknown) => {
                    let grace = self.shared.timings.stop_grace;
                    tracing::warn!(slot = %self.id, %generation, ?grace, "it has no /drain/status: it is given its grace");
                    pause(grace).await.map(|()| 0)
                }
                Err(error) => {
                    tracing::warn!(slot = %self.id, %generation, error = chain(&error), "no count from the child");
                    None
                }
            };
            if let Some(inflight) = inflight {
                let taken_back = taken_back.clone();
                let told = tell.send(Event::ChildLoad { generation, inflight, taken_back }).await;
                if inflight == 0 || told.is_err() {
                    return;
                }
            }
            pause(self.shared.probes.drain).await;
        }
    }

    /// Takes a child's drain back, and looks whether it has.
    pub(crate) async fn undrain(self, generation: Generation, link: ChildLink) {
        let within = self.shared.probes.timeout;
        loop {
            let undrained = match link.resume(within).await {
                Ok(()) => link.ready(&mut Line::Fresh, within).await.map(|ready| !ready.draining),
                Err(error) => Err(error),
            };
            match undrained {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(slot = %self.id, %generation, error = chain(&error), "the drain is not taken back");
                }
            }
            tokio::time::sleep(self.shared.probes.drain).await;
        }
    }
}

/// What an older child's readiness path says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Ready,
    /// It has no such path.
    Absent,
    Not(Probe),
}

/// Pure. Only a body that says so is a positive "initializing"; a path that the operator has named and that is not
/// there yet is one too, for the child answers (F19, F20).
fn older_readiness(path: &str, is_own: bool, status: StatusCode, body: &[u8]) -> Said {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        draining: bool,
        #[serde(default)]
        inflight: Option<u64>,
        #[serde(default)]
        ready: Option<bool>,
    }
    if status == StatusCode::OK {
        return Said::Ready;
    }
    if is_absent(status) {
        let detail = format!("{path} is not there yet: {status}");
        return if is_own { Said::Not(Probe::Initializing { detail }) } else { Said::Absent };
    }
    let detail = format!("{path} answered {status}");
    Said::Not(match serde_json::from_slice::<Body>(body) {
        Ok(Body { draining: true, .. }) => not_ready("it says that it drains"),
        Ok(Body { ready, inflight, .. }) if status == StatusCode::SERVICE_UNAVAILABLE => {
            if ready.is_some() || inflight.is_some() { Probe::Initializing { detail } } else { not_ready(detail) }
        }
        Ok(_) | Err(_) => not_ready(detail),
    })
}

fn not_ready(detail: impl Into<String>) -> Probe {
    Probe::NotReady { detail: detail.into() }
}

/// That nobody else listens where the child should serve. A Unix socket was bound for it, in a folder of its own.
async fn own_serving(subject: &Subject, known: Sockets) -> Result<(), Probe> {
    match subject.link.socket {
        Some(_) => Ok(()),
        None => own_sockets(subject, &[subject.link.port], known).await,
    }
}

/// That nobody else listens where the child should.
async fn own_sockets(subject: &Subject, ports: &[u16], known: Sockets) -> Result<(), Probe> {
    if known == Sockets::Own {
        return Ok(());
    }
    for port in ports.iter().copied() {
        let process = subject.running.identity().clone();
        let owner = tokio::task::spawn_blocking(move || owner_of_port(port, &process)).await;
        match owner.unwrap_or(Ownership::Unverified) {
            Ownership::Owned | Ownership::Unverified => {}
            Ownership::Foreign => return Err(not_ready(format!("port {port} belongs to another process"))),
            Ownership::NotListening => return Err(not_ready(format!("nothing listens on port {port}"))),
        }
    }
    Ok(())
}

/// How often and for how long children are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeTimings {
    /// Between rounds until a candidate is ready.
    pub(crate) ready: Duration,
    /// Between rounds afterwards.
    pub(crate) live: Duration,
    /// Between counts of a draining child.
    pub(crate) drain: Duration,
    /// For each call.
    pub(crate) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F19, F20: the window grows on a positive "initializing" alone.
    #[test]
    fn f19_f20_an_older_child_extends_its_window_only_by_saying_so() {
        let said = |is_own, status: u16, body: &str| {
            older_readiness("/ready", is_own, StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        let kind = |said: Said| match said {
            Said::Ready => "ready",
            Said::Absent => "absent",
            Said::Not(Probe::Initializing { .. }) => "initializing",
            Said::Not(Probe::NotReady { .. } | Probe::Ready) => "not ready",
        };
        for (is_own, status, body, expected) in [
            (false, 200, "", "ready"),
            (true, 200, "anything", "ready"),
            (false, 503, r#"{"ready":false,"draining":false,"inflight":0,"storage_ready":false}"#, "initializing"),
            (false, 503, r#"{"ready":false,"draining":true,"inflight":2}"#, "not ready"),
            (false, 503, "{}", "not ready"),
            (false, 503, "", "not ready"),
            (false, 503, "upstream connect error", "not ready"),
            (false, 500, r#"{"ready":false}"#, "not ready"),
            (false, 404, "", "absent"),
            (false, 405, "", "absent"),
            (false, 501, "", "absent"),
            (true, 404, "", "initializing"),
            (false, 302, "", "not ready"),
        ] {
            assert_eq!(kind(said(is_own, status, body)), expected, "{is_own} {status} {body}");
        }
    }
}
