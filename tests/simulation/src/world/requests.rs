//! Requests, from the client to the last byte, over every attempt.

use rand::RngExt as _;
use router_core::choose::{Ask, Choice, Failed, Next};
use router_core::retry::{BodyState, Failure};

use super::{CLIENTS, Event, HOSTS, ROUTERS, World};
use crate::client::{ATTEMPTS, Request, is_last_resort, key};
use crate::fault::Fault;
use crate::host::VERSION;
use crate::judge::{self, IDLE};

/// How long a connection may take to come about, in milliseconds.
const CONNECT_MS: u64 = 5_000;

impl World {
    pub(super) fn client(&mut self, client: usize) -> Result<(), String> {
        let up: Vec<usize> = (0..ROUTERS).filter(|router| self.routers[*router].is_up).collect();
        if !up.is_empty() {
            let router = up[self.rng.random_range(0..up.len())];
            let takes = (self.rng.random_range(2..300), self.rng.random_range(1..2_500));
            let is_post = self.rng.random_bool(0.6);
            // Now and then a client begins a new session.
            if self.rng.random_bool(0.1) {
                self.sessions[client] += CLIENTS;
            }
            let session = self.sessions[client];
            let request = Request {
                session,
                is_post,
                began: self.now,
                router,
                search: None,
                attempts: 0,
                at: None,
                executed: 0,
                has_head: false,
                broke: 0,
                takes,
            };
            self.next += 1;
            let number = self.next;
            self.requests.insert(number, request);
            self.route(number)?;
        }
        self.soon(700, Event::Client { client });
        Ok(())
    }

    pub(super) fn route(&mut self, number: u64) -> Result<(), String> {
        let Some(request) = self.requests.get_mut(&number) else { return Ok(()) };
        let router = &self.routers[request.router];
        if !router.is_known() {
            self.saw("held until the hosts are known");
            self.at(100, Event::Route { request: number });
            return Ok(());
        }
        let (bytes, version) = (key(request.session), VERSION.parse().ok());
        let ask = Ask { key: &bytes, version: version.as_ref(), spread: IDLE };
        match router.view.choose(&ask, &router.refusals) {
            Ok((choice, search)) => {
                request.search = Some(search);
                self.send(number, &choice);
                Ok(())
            }
            Err(reason) => Err(format!("P4: session {} has no host: {reason}", request.session)),
        }
    }

    pub(super) fn send(&mut self, number: u64, choice: &Choice) {
        if is_last_resort(choice) {
            self.saw("last resort");
        }
        let Some(request) = self.requests.get_mut(&number) else { return };
        request.attempts += 1;
        let router = request.router;
        let seat = self.routers[router].view.seat(&choice.id).map(|seat| seat.address.clone());
        let not_sent = Event::Lost { request: number, failure: Failure::NotSent };
        match seat.and_then(|address| self.host_at(&address)) {
            None => self.sent(not_sent),
            Some(host) if matches!(self.fault, Fault::Partition { .. }) && self.is_lost(router, host) => {
                self.at(CONNECT_MS, not_sent);
            }
            Some(host) => {
                let boot = self.hosts[host].boot;
                let is_last_resort = is_last_resort(choice);
                self.sent(Event::Arrive { request: number, host, boot, is_last_resort });
            }
        }
    }

    pub(super) fn arrive(
        &mut self,
        number: u64,
        (host, boot): (usize, u64),
        is_last_resort: bool,
    ) -> Result<(), String> {
        let Some(request) = self.requests.get_mut(&number) else { return Ok(()) };
        if host >= HOSTS {
            return Err(format!("F65: a request of session {} came to a clone", request.session));
        }
        let one = &mut self.hosts[host];
        if !one.lives || one.boot != boot {
            self.sent(Event::Lost { request: number, failure: Failure::NotSent });
            return Ok(());
        }
        if let Some(backlog) = &mut one.frozen {
            backlog.push(Event::Arrive { request: number, host, boot, is_last_resort });
            return Ok(());
        }
        if !one.admits(request.session, is_last_resort) {
            self.saw("not admitted");
            self.sent(Event::Lost { request: number, failure: Failure::NotAdmitted });
            return Ok(());
        }
        request.executed += 1;
        judge::executed(request)?;
        one.held.insert(request.session);
        let (head, _) = request.takes;
        if matches!(self.fault, Fault::Resets) && self.rng.random_bool(0.2) {
            self.saw("reset");
            self.sent(Event::Lost { request: number, failure: Failure::NoResponse });
            return Ok(());
        }
        one.inflight.insert(number);
        request.at = Some((host, boot));
        self.at(head, Event::Head { request: number, host, boot });
        Ok(())
    }

    pub(super) fn head(&mut self, number: u64, host: usize, boot: u64) {
        let is_there = self.hosts[host].boot == boot && self.hosts[host].inflight.contains(&number);
        if let Some(backlog) = self.hosts[host].frozen.as_mut().filter(|_| is_there) {
            return backlog.push(Event::Head { request: number, host, boot });
        }
        if let Some(request) = self.requests.get_mut(&number).filter(|_| is_there) {
            request.has_head = true;
            let (_, rest) = request.takes;
            self.at(rest, Event::Done { request: number, host, boot });
        }
    }

    pub(super) fn finish(&mut self, number: u64, host: usize, boot: u64) -> Result<(), String> {
        if self.hosts[host].boot != boot || !self.hosts[host].inflight.remove(&number) {
            return Ok(());
        }
        if let Some(request) = self.requests.remove(&number) {
            self.saw("answered");
            if request.attempts > 1 {
                self.saw("answered after another attempt");
            }
            self.owners.note(request.session, request.began, host);
            judge::served(&request, &self.hosts[host], &self.hosts, self.since, self.fault)?;
        }
        self.host_tick(host, boot)
    }

    pub(super) fn lost(&mut self, number: u64, failure: Failure) -> Result<(), String> {
        let Some(request) = self.requests.get_mut(&number) else { return Ok(()) };
        request.at = None;
        request.broke += u32::from(failure == Failure::NoResponse);
        let router = &mut self.routers[request.router];
        let attempts_left = ATTEMPTS.saturating_sub(request.attempts);
        let failed = Failed { failure, is_idempotent: !request.is_post, body: BodyState::Buffered, attempts_left };
        let Some(search) = &mut request.search else { return Ok(()) };
        match router.view.failed(search, failed, IDLE, &mut router.refusals) {
            Next::Try(choice) => {
                self.send(number, &choice);
                Ok(())
            }
            Next::GiveUp(refusal) => {
                judge::refused(request, refusal)?;
                self.requests.remove(&number);
                self.saw("refused, since it may have run");
                Ok(())
            }
        }
    }
}
