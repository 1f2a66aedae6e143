//! What routers ask hosts, and what comes of it.

use std::cmp::Reverse;

use rand::RngExt as _;
use router_core::members::{Address, Answer, Listing, Silence};
use router_core::view::Alarm;
use versiond_router::pace::{Before, Came};

use super::{Event, ROUTERS, World};
use crate::fault::{Fault, List};
use crate::host::{Waiting, ms};
use crate::router::{Check, listed, pace};

impl World {
    pub(super) fn list(&mut self, what: Option<List>) {
        let mut addresses: Vec<Address> = self.hosts.iter().map(|host| host.address.clone()).collect();
        let listing = match what {
            None => Listing::Written(listed(addresses)),
            Some(List::Reversed) => {
                addresses.reverse();
                Listing::Written(listed(addresses))
            }
            Some(List::Empty) => Listing::Written(Vec::new()),
            Some(List::Failed) => Listing::Failed,
        };
        for router in 0..ROUTERS {
            self.routers[router].list(listing.clone(), self.now);
            self.follow(router);
        }
    }

    /// A check for each address that is listed.
    pub(super) fn follow(&mut self, router: usize) {
        let one = &mut self.routers[router];
        let listed: Vec<Address> = one.pool.members().iter().map(|(address, _)| address.clone()).collect();
        one.checks.retain(|address, _| listed.contains(address));
        let life = one.life;
        for address in listed {
            if !one.checks.contains_key(&address) {
                one.checks.insert(address.clone(), Check { before: Before::Heard, question: None, last: None });
                self.next += 1;
                self.queue.push(Reverse((self.now.after(ms(1)), self.next)));
                self.events.insert(self.next, Event::Ask { router, life, address });
            }
        }
    }

    pub(super) fn wake(&mut self, router: usize) {
        let life = self.routers[router].life;
        if let Some((at, _)) = self.routers[router].pool.wake() {
            let after = at.since(self.now).as_millis().try_into().unwrap_or(u64::MAX);
            self.at(after.max(1), Event::Wake { router, life });
        }
    }

    pub(super) fn ask(&mut self, router: usize, life: u64, address: Address) {
        let question = self.next + 1;
        let one = &mut self.routers[router];
        let Some(check) = one.checks.get_mut(&address).filter(|_| one.life == life) else { return };
        if check.question.is_some() {
            return;
        }
        let wait = pace().wait(check.before).as_millis().try_into().unwrap_or(0);
        let wait_ms = if check.last.is_some() { wait } else { 0 };
        check.question = Some(question);
        let host = self.hosts.iter().find(|host| host.address == address);
        let is_news = host
            .is_none_or(|host| check.last.as_ref().is_none_or(|(boot, seq)| *boot != host.nonce() || *seq != host.seq));
        self.questions.insert(question, (router, life, address.clone()));
        self.sent(Event::Question { router, question, address, wait_ms, is_news });
        let timeout = pace().timeout.as_millis().try_into().unwrap_or(0);
        self.at(timeout, Event::TimedOut { question });
    }

    /// Whether a message between these two does not arrive.
    pub(super) fn is_lost(&mut self, router: usize, host: usize) -> bool {
        match self.fault {
            Fault::Partition { router: from, host: to } => (router, host) == (from, to),
            Fault::Loss => self.rng.random_bool(0.3),
            Fault::Calm
            | Fault::Cordon { .. }
            | Fault::CordonAndKill { .. }
            | Fault::CordonAll { .. }
            | Fault::Kill { .. }
            | Fault::Freeze { .. }
            | Fault::Stop { .. }
            | Fault::Resets
            | Fault::Clone { .. }
            | Fault::List { .. }
            | Fault::RestartRouter { .. } => false,
        }
    }

    pub(super) fn host_at(&self, address: &Address) -> Option<usize> {
        self.hosts.iter().position(|host| host.address == *address && host.lives)
    }

    pub(super) fn question(&mut self, router: usize, question: u64, address: Address, wait_ms: u64, is_news: bool) {
        let Some(host) = self.host_at(&address) else {
            return self.sent(Event::Reply { question, answer: Answer::Silent(Silence::Refused) });
        };
        if self.is_lost(router, host) {
            return;
        }
        if let Some(backlog) = &mut self.hosts[host].frozen {
            backlog.push(Event::Question { router, question, address, wait_ms, is_news });
            return;
        }
        self.hosts[host].waiting.push(Waiting { router, question });
        if wait_ms == 0 || is_news {
            self.answer_one(host, question);
        } else {
            self.at(wait_ms, Event::WaitOver { host, question });
        }
    }

    pub(super) fn answer_one(&mut self, host: usize, question: u64) {
        // A clone may have gone.
        let Some(one) = self.hosts.get_mut(host).filter(|one| one.frozen.is_none() && one.lives) else { return };
        let Some(at) = one.waiting.iter().position(|waiting| waiting.question == question) else { return };
        let waiting = one.waiting.remove(at);
        let answer = one.word(self.now);
        if !self.is_lost(waiting.router, host) {
            self.sent(Event::Reply { question, answer });
        }
    }

    /// A host has something new to say.
    pub(super) fn changed(&mut self, host: usize) {
        self.hosts[host].seq += 1;
        let waiting: Vec<u64> = self.hosts[host].waiting.iter().map(|waiting| waiting.question).collect();
        for question in waiting {
            self.answer_one(host, question);
        }
        let boot = self.hosts[host].boot;
        if let Some(at) = self.hosts[host].machine.wake() {
            let after = at.since(self.now).as_millis().try_into().unwrap_or(u64::MAX);
            self.at(after.max(1), Event::HostTick { host, boot });
        }
    }

    pub(super) fn reply(&mut self, question: u64, answer: Answer) {
        let Some((router, life, address)) = self.questions.remove(&question) else { return };
        let one = &mut self.routers[router];
        if one.life != life {
            return;
        }
        match one.checks.get_mut(&address) {
            Some(check) if check.question == Some(question) => check.question = None,
            Some(_) | None => return,
        }
        let Some((before, came)) = one.hear(&address, answer, self.now) else { return };
        if one.view.whole().alarms.iter().any(|alarm| matches!(alarm, Alarm::Panic(_))) {
            self.saw("panic");
        }
        let jitter = self.rng.random();
        let came = if before == Before::Silent && came == Came::News { Came::Look } else { came };
        let pause = pace().pause(before, came, jitter).as_millis().try_into().unwrap_or(0);
        self.at(pause, Event::Ask { router, life, address });
        self.wake(router);
    }
}
