//! What is done to hosts and routers, how it is taken back, and the rest after it.

use rand::RngExt as _;
use router_core::members::{Answer, Listing, Silence};
use router_core::retry::Failure;
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;

use super::{Event, HOSTS, ROUTERS, World, address};
use crate::fault::Fault;
use crate::host::{Host, Waiting, window_ms};
use crate::judge;
use crate::router::listed;

impl World {
    pub(super) fn host_tick(&mut self, host: usize, boot: u64) -> Result<(), String> {
        let one = &mut self.hosts[host];
        if one.boot != boot || !one.lives || one.frozen.is_some() {
            return Ok(());
        }
        let inflight = one.inflight.len() as u64;
        if one.machine.tick(inflight, self.now) {
            self.changed(host);
        }
        let one = &mut self.hosts[host];
        if one.machine.state() == HostState::Stopping && one.machine.all_gone() {
            if !one.inflight.is_empty() {
                return Err(format!("P1: {} has stopped with {} requests in it", one.id, one.inflight.len()));
            }
            self.end(host);
        }
        Ok(())
    }

    /// The process of a host is gone, and its connections with it.
    pub(super) fn end(&mut self, host: usize) {
        let one = &mut self.hosts[host];
        one.lives = false;
        let (waiting, inflight) = (std::mem::take(&mut one.waiting), std::mem::take(&mut one.inflight));
        for Waiting { question, .. } in waiting {
            self.sent(Event::Reply { question, answer: Answer::Silent(Silence::Broken) });
        }
        for request in inflight {
            if self.requests.get(&request).is_some_and(|request| request.has_head) {
                self.requests.remove(&request);
                self.saw("cut by a kill");
            } else {
                self.sent(Event::Lost { request, failure: Failure::NoResponse });
            }
        }
    }

    pub(super) fn cordon(&mut self, host: usize, mode: Option<DrainMode>) {
        let machine = &mut self.hosts[host].machine;
        let taken = match mode {
            Some(mode) => machine.set_cordon(mode, self.now),
            None => machine.clear_cordon(),
        };
        if taken.is_ok() {
            self.changed(host);
        }
    }

    pub(super) fn begin(&mut self) {
        self.fault = Fault::any(&mut self.rng, HOSTS, ROUTERS);
        self.since = self.now;
        self.owners.clear();
        self.saw(self.fault.name());
        let mut lasts = self.rng.random_range(2_000..14_000);
        match self.fault {
            Fault::Calm | Fault::Partition { .. } | Fault::Loss | Fault::Resets => {}
            Fault::Cordon { host, mode } => self.cordon(host, Some(mode)),
            Fault::CordonAndKill { host } => {
                self.cordon(host, Some(DrainMode::All));
                self.end(host);
                self.hosts[host].start();
            }
            Fault::CordonAll { mode } => (0..HOSTS).for_each(|host| self.cordon(host, Some(mode))),
            Fault::Kill { host } => self.end(host),
            Fault::Freeze { host } => self.hosts[host].frozen = Some(Vec::new()),
            Fault::Stop { host, .. } => {
                self.hosts[host].machine.stop(self.now);
                self.changed(host);
                lasts += 12_000;
            }
            Fault::Clone { host } => {
                let mut clone = Host::new(host + 1, address(100 + host));
                clone.boot = 1_000;
                self.hosts.push(clone);
                self.list(None);
            }
            Fault::List { what } => self.list(Some(what)),
            Fault::RestartRouter { router, crash } => {
                let one = &mut self.routers[router];
                (one.is_up, one.life) = (false, one.life + 1);
                if crash {
                    let lost: Vec<u64> = self
                        .requests
                        .iter()
                        .filter(|(_, one)| one.router == router)
                        .map(|(number, _)| *number)
                        .collect();
                    for number in lost {
                        self.requests.remove(&number);
                        // Whoever has it notices that nobody waits for it any more.
                        self.hosts.iter_mut().for_each(|host| {
                            host.inflight.remove(&number);
                        });
                        self.saw("lost with its router");
                    }
                } else {
                    lasts += 9_000;
                }
            }
        }
        self.at(lasts, Event::Heal);
    }

    pub(super) fn heal(&mut self) {
        // A router ends once its last request has, and a host too.
        let goes_on = match self.fault {
            Fault::RestartRouter { router, .. } => self.requests.values().any(|one| one.router == router),
            Fault::Stop { host, .. } => self.hosts[host].lives,
            Fault::Calm
            | Fault::Cordon { .. }
            | Fault::CordonAndKill { .. }
            | Fault::CordonAll { .. }
            | Fault::Kill { .. }
            | Fault::Freeze { .. }
            | Fault::Partition { .. }
            | Fault::Loss
            | Fault::Resets
            | Fault::Clone { .. }
            | Fault::List { .. } => false,
        };
        if goes_on {
            return self.at(200, Event::Heal);
        }
        let healed = std::mem::replace(&mut self.fault, Fault::Calm);
        match healed {
            Fault::Calm | Fault::Partition { .. } | Fault::Loss | Fault::Resets => {}
            Fault::Cordon { host, .. } | Fault::CordonAndKill { host } => self.cordon(host, None),
            Fault::CordonAll { .. } => (0..HOSTS).for_each(|host| self.cordon(host, None)),
            Fault::Kill { host } => self.hosts[host].start(),
            Fault::Freeze { host } => {
                for event in self.hosts[host].frozen.take().unwrap_or_default() {
                    self.sent(event);
                }
                self.changed(host);
            }
            Fault::Stop { host, moves } => {
                self.hosts[host].start();
                if moves {
                    self.hosts[host].address = address(50 + host);
                    self.list(None);
                }
            }
            Fault::Clone { .. } => {
                self.hosts.truncate(HOSTS);
                self.list(None);
            }
            Fault::List { .. } => self.list(None),
            Fault::RestartRouter { router, .. } => {
                self.routers[router].start(self.now);
                let addresses = listed(self.hosts.iter().map(|host| host.address.clone()));
                self.routers[router].list(Listing::Written(addresses), self.now);
                self.follow(router);
                self.wake(router);
            }
        }
        self.healed = self.now;
        self.at(window_ms() + 4_000, Event::Rest);
    }

    pub(super) fn rest(&mut self) -> Result<(), String> {
        judge::at_rest(&self.routers, &self.hosts)?;
        self.two_owners_ms = self.two_owners_ms.max(self.owners.settled(self.healed)?);
        self.done += 1;
        self.at(1, Event::Begin);
        Ok(())
    }
}
