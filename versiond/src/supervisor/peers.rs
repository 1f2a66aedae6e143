//! What the other hosts of the pool say of a slot: asked over and over for as long as a change waits for it.
//!
//! Must not live here: what follows from it (that is `versiond-core::evacuate`).

use std::time::Duration;

use http::{Method, StatusCode};
use supervisor_protocol::host::{HostState, ReadyAll};
use supervisor_protocol::{HostId, SCHEMA, SlotId};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use versiond_core::evacuate::Word;
use versiond_core::slot::Input;

use crate::ask::{ChildError, Line, Question, dial_host};
use crate::config::Peer;
use crate::supervisor::child::chain;
use crate::supervisor::effects::{Effects, Event};

const EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(3);
/// A host has thousands of slots in one answer, in bytes.
const MOST: usize = 4 << 20;

/// The questions to all peers, until it is dropped.
pub(crate) struct Asking {
    _all: DropGuard,
}

/// Begins to ask every peer about the slot of these effects.
pub(crate) fn ask(effects: &Effects, tell: &mpsc::Sender<Event>) -> Asking {
    let cancel = CancellationToken::new();
    for peer in effects.shared.peers.iter().cloned() {
        let (effects, tell, cancel) = (effects.clone(), tell.clone(), cancel.clone());
        tokio::spawn(async move { cancel.run_until_cancelled(asking(peer, effects, tell)).await });
    }
    Asking { _all: cancel.drop_guard() }
}

async fn asking(peer: Peer, effects: Effects, tell: mpsc::Sender<Event>) {
    let mut line = Line::Kept(None);
    let mut complaint = None;
    loop {
        let asked = effects.shared.clock.now();
        let said = tokio::time::timeout(WITHIN, word(&mut line, &peer, &effects.id)).await;
        let said = said.unwrap_or_else(|_| Err(format!("no answer within {WITHIN:?}")));
        let word = match said {
            Ok(word) => {
                complaint = None;
                Some(word)
            }
            Err(error) => {
                if complaint.as_ref() != Some(&error) {
                    tracing::warn!(slot = %effects.id, peer = %peer.id, error, "a peer does not answer for itself");
                    complaint = Some(error);
                }
                None
            }
        };
        if tell.send(Event::Input(Input::Peer { host: peer.id.clone(), asked, word })).await.is_err() {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What it says of the slot; an error is no word of this host.
async fn word(line: &mut Line, peer: &Peer, slot: &SlotId) -> Result<Word, String> {
    let question = Question { method: Method::GET, path: "/readyz?all=1", place: &peer.address, most: MOST };
    let answer = line.ask(&question, dial_host(&peer.address)).await.map_err(|error| chain(&error))?;
    let (status, body) = answer;
    if !matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
        return Err(format!("{} answered {status}: is this host in its status_allow?", peer.address));
    }
    let wrong = |source| ChildError::Body { place: peer.address.clone(), source };
    let all: ReadyAll = serde_json::from_slice(&body).map_err(|source| chain(&wrong(source)))?;
    if all.schema > SCHEMA {
        return Err(format!("{} speaks schema {}, newer than {SCHEMA}", peer.address, all.schema));
    }
    if all.id != peer.id {
        return Err(format!("{} is {}, and not {}", peer.address, all.id, peer.id));
    }
    Ok(of(&all, slot))
}

fn of(all: &ReadyAll, slot: &SlotId) -> Word {
    match all.slots.iter().find(|one| one.service == slot.service && one.name == slot.name) {
        Some(one) => Word::Slot {
            ready: one.ready && all.state == HostState::Serving,
            sha256: one.sha256,
            failed: one.failed,
            evacuating: one.evacuating,
        },
        // It may not have read its catalog yet.
        None if all.state == HostState::Starting => {
            Word::Slot { ready: false, sha256: None, failed: None, evacuating: false }
        }
        None => Word::Absent,
    }
}

/// The peers without this host.
pub(crate) fn others(peers: &[Peer], me: &HostId) -> Vec<Peer> {
    peers.iter().filter(|peer| peer.id != *me).cloned().collect()
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::host::SlotReadiness;
    use supervisor_protocol::{BootNonce, Sha256};

    use super::*;

    fn all(state: HostState, slots: Vec<SlotReadiness>) -> ReadyAll {
        let (id, boot) = ("gpu-1".parse().unwrap(), BootNonce::new("b").unwrap());
        ReadyAll { schema: SCHEMA, id, boot, seq: 1, state, ready: true, slots }
    }

    #[test]
    fn a_cordoned_host_takes_nothing_over_and_one_without_the_slot_need_not_be_waited_for() {
        let slot = SlotId { service: "demo".parse().unwrap(), name: "v1".parse().unwrap() };
        let sha256 = Some(Sha256([1; 32]));
        let (service, name) = (slot.service.clone(), slot.name.clone());
        let one = SlotReadiness { service, name, ready: true, sha256, failed: None, evacuating: false };
        let ready = |state| match of(&all(state, vec![one.clone()]), &slot) {
            Word::Slot { ready, sha256: serves, .. } => (ready, serves == sha256),
            Word::Absent => panic!("it has the slot"),
        };
        assert_eq!(ready(HostState::Serving), (true, true));
        assert_eq!(ready(HostState::Cordoned), (false, true));
        assert_eq!(of(&all(HostState::Serving, Vec::new()), &slot), Word::Absent);
        assert!(matches!(of(&all(HostState::Starting, Vec::new()), &slot), Word::Slot { ready: false, .. }));
    }
}
