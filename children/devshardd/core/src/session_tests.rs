use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::auth::Key;
use crate::wire::{Confirm, Finalize, Finish, Reason, Start, Timeout, TimeoutVote, TimeoutWords, Tx, Validation, Vote};

const ESCROW: &str = "escrow-journal";

/// The parties of a session: members with the keys 1, 2, …, and the owner with the next.
struct Parties {
    hosts: Vec<Key>,
    owner: Key,
}

impl Parties {
    fn new(hosts: u64) -> Parties {
        let key = |number: u64| Key::from_hex(&format!("{number:064x}")).unwrap();
        Parties { hosts: (1..=hosts).map(key).collect(), owner: key(hosts + 1) }
    }

    fn binding(&self, terms: Terms) -> Binding {
        let members = self.hosts.iter().map(|key| Member { address: key.address().unwrap(), warm_key: None });
        let group = Group::new(members.collect()).unwrap();
        Binding::new(ESCROW.parse().unwrap(), self.owner.address().unwrap(), 1_000_000, terms, group).unwrap()
    }

    fn of(&self, id: u64) -> (&Key, u32) {
        let slot = id % u64::try_from(self.hosts.len()).unwrap();
        (&self.hosts[usize::try_from(slot).unwrap()], u32::try_from(slot).unwrap())
    }

    fn confirm(&self, id: u64) -> Tx {
        let inference = Inference { prompt_hash: b"prompt".to_vec(), ..pending() };
        let receipt = inference.receipt(ESCROW, InferenceId(id), 1_000);
        let executor_sig = self.of(id).0.sign_message(&receipt.encode_to_vec()).to_vec();
        Tx::of(Kind::Confirm(Confirm { inference_id: id, executor_sig, confirmed_at: 1_000 }))
    }

    fn finish(&self, id: u64) -> Tx {
        let (key, executor_slot) = self.of(id);
        let mut finish = Finish {
            inference_id: id,
            response_hash: b"response".to_vec(),
            input_tokens: 80,
            output_tokens: 40,
            executor_slot,
            proposer_sig: vec![],
            escrow_id: ESCROW.to_owned(),
        };
        finish.proposer_sig = key.sign_message(&finish.encode_to_vec()).to_vec();
        Tx::of(Kind::Finish(finish))
    }

    fn validation(&self, id: u64, slot: u32, valid: bool) -> Tx {
        let mut validation = Validation {
            inference_id: id,
            validator_slot: slot,
            valid,
            proposer_sig: vec![],
            escrow_id: ESCROW.to_owned(),
        };
        validation.proposer_sig = self.key(slot).sign_message(&validation.encode_to_vec()).to_vec();
        Tx::of(Kind::Validation(validation))
    }

    fn vote(&self, id: u64, slot: u32, vote_valid: bool) -> Tx {
        let mut vote =
            Vote { inference_id: id, voter_slot: slot, vote_valid, proposer_sig: vec![], escrow_id: ESCROW.to_owned() };
        vote.proposer_sig = self.key(slot).sign_message(&vote.encode_to_vec()).to_vec();
        Tx::of(Kind::Vote(vote))
    }

    fn timeout(&self, id: u64, reason: Reason, voters: &[u32]) -> Tx {
        let words =
            TimeoutWords { escrow_id: ESCROW.to_owned(), inference_id: id, reason: reason.into(), accept: true };
        let votes = voters.iter().map(|slot| TimeoutVote {
            voter_slot: *slot,
            accept: true,
            signature: self.key(*slot).sign_message(&words.encode_to_vec()).to_vec(),
        });
        Tx::of(Kind::Timeout(Timeout { inference_id: id, reason: reason.into(), votes: votes.collect() }))
    }

    fn key(&self, slot: u32) -> &Key {
        &self.hosts[usize::try_from(slot).unwrap()]
    }

    /// The step with these transactions behind this state, signed by the owner.
    fn step(&self, state: &State, txs: Vec<Tx>) -> Diff {
        self.step_with(state, txs, &[])
    }

    fn step_with(&self, state: &State, txs: Vec<Tx>, root: &[u8]) -> Diff {
        let nonce = state.latest().0 + 1;
        let bare = Content { nonce, txs, ..Content::default() };
        let signed =
            Content { escrow_id: ESCROW.to_owned(), post_state_root: root.to_vec(), ..bare.clone() }.encode_to_vec();
        Diff {
            nonce: Nonce(nonce),
            txs: bare.encode_to_vec(),
            user_sig: self.owner.sign_message(&signed).to_vec(),
            post_state_root: root.to_vec(),
        }
    }

    /// A step of this nonce that does nothing, in one of two ways.
    fn blank(&self, nonce: u64, is_other: bool) -> Diff {
        let seed = Kind::RevealSeed(crate::wire::RevealSeed { slot_id: u32::from(is_other), ..Default::default() });
        let bare = Content { nonce, txs: vec![Tx::of(seed)], ..Content::default() };
        let signed = Content { escrow_id: ESCROW.to_owned(), ..bare.clone() }.encode_to_vec();
        let user_sig = self.owner.sign_message(&signed).to_vec();
        Diff { nonce: Nonce(nonce), txs: bare.encode_to_vec(), user_sig, post_state_root: vec![] }
    }

    fn after(&self, state: &State, txs: Vec<Tx>) -> Result<State, StepError> {
        state.after(&self.step(state, txs), Trust::Nobody)
    }

    fn tx_error(&self, state: &State, tx: Tx) -> TxError {
        match self.after(state, vec![tx]) {
            Err(StepError::Tx { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    }
}

fn pending() -> Inference {
    Inference {
        status: Status::Pending,
        executor: Slot(0),
        model: "llama".to_owned(),
        prompt_hash: vec![],
        response_hash: vec![],
        input_length: 100,
        max_tokens: 50,
        input_tokens: 0,
        output_tokens: 0,
        reserved_cost: 0,
        actual_cost: 0,
        started_at: 1_000,
        confirmed_at: 0,
        votes_valid: 0,
        votes_invalid: 0,
        validated_by: inference::Slots::default(),
    }
}

fn start(id: u64) -> Tx {
    Tx::of(Kind::Start(Start {
        inference_id: id,
        prompt_hash: b"prompt".to_vec(),
        model: "llama".to_owned(),
        input_length: 100,
        max_tokens: 50,
        started_at: 1_000,
    }))
}

fn finalize() -> Tx {
    Tx::of(Kind::Finalize(Finalize {}))
}

fn terms() -> Terms {
    Terms {
        token_price: 1,
        vote_threshold: Some(1),
        seal_grace_s: 3_600,
        seal_grace_nonces: Some(6),
        seal_every: 1,
        ..Terms::free()
    }
}

/// Every transaction, the seals, and the end of a session, as the upstream's release 4.1.0 has them: the roots are its
/// own.
#[test]
fn a_session_has_the_roots_of_the_upstream() {
    let parties = Parties::new(5);
    let p = &parties;
    let steps = vec![
        vec![start(1)],
        vec![p.confirm(1)],
        vec![p.finish(1)],
        vec![start(4)],
        vec![p.confirm(4)],
        vec![p.finish(4)],
        vec![p.validation(4, 0, true), p.validation(4, 0, true)],
        vec![start(8)],
        vec![p.confirm(8)],
        vec![p.finish(8)],
        vec![p.validation(8, 4, false)],
        vec![p.vote(8, 0, true)],
        vec![p.vote(8, 1, true)],
        vec![start(14)],
        vec![p.confirm(14)],
        vec![p.finish(14)],
        vec![p.validation(14, 0, false)],
        vec![p.vote(14, 1, false)],
        vec![start(19)],
        vec![p.confirm(19)],
        vec![p.timeout(19, Reason::Execution, &[0, 1])],
        vec![start(22)],
        vec![p.confirm(22)],
        vec![p.finish(22)],
        vec![],
        vec![],
        vec![],
        vec![],
        vec![finalize()],
        vec![],
        vec![],
        vec![],
        vec![],
        vec![],
    ];
    let roots: Vec<&str> = include_str!("session_roots.txt").lines().collect();
    assert_eq!(roots.len(), steps.len() + 1);
    let mut state = State::begin(parties.binding(terms()));
    assert_eq!(hex::encode(state.root()), roots[0]);
    for (txs, expected) in steps.into_iter().zip(&roots[1..]) {
        let root = hex::decode(expected).unwrap();
        let step = parties.step_with(&state, txs, &root);
        let stored = state.after(&step, Trust::Stored).unwrap();
        state = state.after(&step, Trust::Nobody).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(hex::encode(state.root()), *expected, "step {}", state.latest());
        assert_eq!(stored, state, "what is stored is replayed to the same");
    }
    assert_eq!(state.phase(), Phase::Settlement);
    assert_eq!(state.live().count(), 0);
}

#[path = "session_rules_tests.rs"]
mod rules;
