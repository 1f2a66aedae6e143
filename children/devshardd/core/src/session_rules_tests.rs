//! What the steps of a session may and may not do.

use super::duty::Seed;
use super::judge::{JudgeError, Judgement, No, PayloadError};
use super::owed::{Checked, Executed, Outcome};
use super::plan::plan;
use super::*;
use crate::diffs::{Fork, compare};
use crate::request::Payload;

/// A state with inference `id` behind these transactions, each in a step of its own; `id` is the step that starts it.
fn with(parties: &Parties, id: u64, txs: Vec<Tx>) -> State {
    let mut state = State::begin(parties.binding(terms()));
    while state.latest().0 + 1 < id {
        state = parties.after(&state, vec![]).unwrap();
    }
    state = parties.after(&state, vec![start(id)]).unwrap();
    for tx in txs {
        state = parties.after(&state, vec![tx]).unwrap();
    }
    state
}

#[test]
fn a_step_that_is_not_the_owners_next_is_refused() {
    let parties = Parties::new(3);
    let state = State::begin(parties.binding(terms()));
    let step = parties.step(&state, vec![start(1)]);
    let refused = |change: &dyn Fn(&mut Diff)| {
        let mut step = step.clone();
        change(&mut step);
        state.after(&step, Trust::Nobody).unwrap_err().code()
    };
    assert_eq!(refused(&|step| step.nonce = Nonce(2)), "step_not_next");
    assert_eq!(refused(&|step| step.nonce = Nonce(0)), "step_not_next");
    assert_eq!(refused(&|step| step.txs = b"step 1".to_vec()), "step_unreadable");
    // A field that this build does not know would be signed unread.
    assert_eq!(refused(&|step| step.txs.extend([0x28, 7])), "step_unreadable");
    assert_eq!(
        refused(&|step| step.txs = Content { nonce: 2, ..Content::default() }.encode_to_vec()),
        "step_other_nonce"
    );
    assert_eq!(refused(&|step| step.user_sig = parties.key(0).sign_message(b"x").to_vec()), "step_not_signed");
    assert_eq!(refused(&|step| step.user_sig.clear()), "step_not_signed");
    // The signature holds the state behind the step, too.
    assert_eq!(refused(&|step| step.post_state_root = vec![1; 32]), "step_not_signed");
    let lied = parties.step_with(&state, vec![start(1)], &[1; 32]);
    assert_eq!(state.after(&lied, Trust::Nobody).unwrap_err().code(), "step_other_root");
    assert!(matches!(parties.after(&state, vec![start(1), start(1)]), Err(StepError::TwoStarts(Nonce(1)))));
    let short = State::begin(parties.binding(Terms { max_nonce: 1, ..terms() }));
    let last = parties.after(&short, vec![]).unwrap();
    assert!(matches!(parties.after(&last, vec![]), Err(StepError::TooMany(Nonce(2), 1))));
    let other = Content { nonce: 1, escrow_id: "other".to_owned(), ..Content::default() }.encode_to_vec();
    assert_eq!(refused(&|step| step.txs = other.clone()), "step_other_nonce");
}

#[test]
fn a_transaction_out_of_order_is_refused() {
    let parties = Parties::new(3);
    let p = &parties;
    let fresh = State::begin(p.binding(terms()));
    assert_eq!(p.tx_error(&fresh, start(2)), TxError::OtherNumber(InferenceId(2)));
    assert_eq!(p.tx_error(&fresh, Tx { kind: None }), TxError::Unknown);
    assert_eq!(p.tx_error(&fresh, p.confirm(1)), TxError::NotLive(InferenceId(1)));
    let pending = with(p, 1, vec![]);
    let not = |status| TxError::Status { id: InferenceId(1), status };
    assert_eq!(p.tx_error(&pending, p.finish(1)), not(Status::Pending));
    assert_eq!(p.tx_error(&pending, p.validation(1, 0, true)), not(Status::Pending));
    assert_eq!(p.tx_error(&pending, p.timeout(1, Reason::Execution, &[0, 2])), not(Status::Pending));
    assert_eq!(p.tx_error(&pending, p.timeout(1, Reason::Unspecified, &[0, 2])), TxError::Reason);
    assert_eq!(
        p.tx_error(&pending, p.timeout(1, Reason::Refused, &[0])),
        TxError::TooFewVotes { threshold: 1, votes: 1 }
    );
    assert_eq!(p.tx_error(&pending, p.timeout(1, Reason::Refused, &[0, 0])), TxError::Twice(0));
    let started = with(p, 1, vec![p.confirm(1)]);
    assert_eq!(p.tx_error(&started, p.confirm(1)), not(Status::Started));
    assert_eq!(p.tx_error(&started, p.timeout(1, Reason::Refused, &[0, 2])), not(Status::Started));
    let finished = with(p, 1, vec![p.confirm(1), p.finish(1)]);
    assert_eq!(p.tx_error(&finished, p.finish(1)), not(Status::Finished));
    assert_eq!(p.tx_error(&finished, p.vote(1, 0, true)), not(Status::Finished));
    assert_eq!(p.tx_error(&finished, p.validation(1, 1, true)), TxError::Itself(1));
    let challenged = p.after(&finished, vec![p.validation(1, 0, false)]).unwrap();
    assert_eq!(p.tx_error(&challenged, p.vote(1, 0, true)), TxError::Twice(0));
    let last = p.after(&fresh, vec![finalize()]).unwrap();
    assert_eq!(p.tx_error(&last, start(2)), TxError::Finalizing);
    assert_eq!(p.tx_error(&last, finalize()), TxError::Finalizing);
    let poor = State::begin(p.binding(Terms { token_price: 10_000, ..terms() }));
    assert_eq!(p.tx_error(&poor, start(1)), TxError::Balance { price: 1_500_000, balance: 1_000_000 });
    let dear = State::begin(p.binding(Terms { token_price: u64::MAX, ..terms() }));
    assert_eq!(p.tx_error(&dear, start(1)), TxError::Overflow);
}

/// Each signature is that of one member, of one session and of these very words.
#[test]
fn nobody_speaks_for_another() {
    let parties = Parties::new(3);
    let p = &parties;
    let spoiled = |mut tx: Tx| {
        match tx.kind.as_mut().unwrap() {
            Kind::Confirm(confirm) => confirm.confirmed_at += 1,
            Kind::Finish(finish) => finish.output_tokens += 1,
            Kind::Validation(validation) => validation.valid = !validation.valid,
            Kind::Vote(vote) => vote.vote_valid = !vote.vote_valid,
            Kind::Timeout(timeout) => timeout.votes[0].accept = false,
            Kind::Start(_) | Kind::RevealSeed(_) | Kind::Finalize(_) => unreachable!(),
        }
        tx
    };
    let pending = with(p, 1, vec![]);
    let started = with(p, 1, vec![p.confirm(1)]);
    let finished = with(p, 1, vec![p.confirm(1), p.finish(1)]);
    let challenged = p.after(&finished, vec![p.validation(1, 0, false)]).unwrap();
    for (state, tx, slot) in [
        (&pending, p.confirm(1), 1),
        (&started, p.finish(1), 1),
        (&finished, p.validation(1, 0, true), 0),
        (&challenged, p.vote(1, 2, true), 2),
        (&started, p.timeout(1, Reason::Execution, &[0, 2]), 0),
    ] {
        assert!(p.after(state, vec![tx.clone()]).is_ok());
        let is_gathered = matches!(tx.kind, Some(Kind::Timeout(_)));
        assert_eq!((state.is_members_word(&tx), state.is_open(&tx)), (!is_gathered, !is_gathered), "{tx:?}");
        let taken = p.after(state, vec![tx.clone()]).unwrap();
        assert!(!taken.is_open(&tx), "{tx:?}");
        assert_eq!(p.tx_error(state, spoiled(tx.clone())), TxError::NotSigned(slot));
        assert!(!state.is_members_word(&spoiled(tx)));
    }
    assert!(!pending.is_members_word(&start(2)) && !pending.is_open(&start(2)), "a start is the owner's own");
    assert!(pending.is_members_word(&p.finish(4)) && pending.is_open(&p.finish(4)), "its start has not come yet");
    assert!(!started.is_open(&p.finish(0)), "nobody has asked for it");
    // The right words in another session.
    let Some(Kind::Finish(finish)) = p.finish(1).kind else { unreachable!() };
    let mut other = Finish { escrow_id: "other".to_owned(), proposer_sig: vec![], ..finish };
    other.proposer_sig = p.key(1).sign_message(&other.encode_to_vec()).to_vec();
    assert_eq!(p.tx_error(&started, Tx::of(Kind::Finish(other))), TxError::OtherEscrow("other".to_owned()));
    let outside = match p.validation(1, 0, true).kind {
        Some(Kind::Validation(validation)) => Validation { validator_slot: 9, ..validation },
        _ => unreachable!(),
    };
    assert_eq!(p.tx_error(&finished, Tx::of(Kind::Validation(outside))), TxError::NoSlot(9));
}

/// Money is where it was: what is left, what is kept for what runs, what was earned, what was charged.
#[test]
fn an_inference_costs_what_it_took_or_nothing() {
    let parties = Parties::new(3);
    let p = &parties;
    let before = State::begin(p.binding(Terms { create_fee: 1_000, fee_per_nonce: 10, ..terms() }));
    assert_eq!((before.balance(), before.fees()), (999_000, 1_000));
    let pending = p.after(&before, vec![start(1)]).unwrap();
    assert_eq!((pending.balance(), pending.fees()), (999_000 - 150 - 10, 1_010));
    let started = p.after(&pending, vec![p.confirm(1)]).unwrap();
    let finished = p.after(&started, vec![p.finish(1)]).unwrap();
    assert_eq!((finished.balance(), finished.stats()[1].cost), (999_000 - 120 - 30, 120));
    let over = p.after(&started, vec![p.timeout(1, Reason::Execution, &[0, 2])]).unwrap();
    assert_eq!((over.balance(), over.stats()[1].missed, over.stats()[1].cost), (999_000 - 30, 1, 0));
    let challenged = p.after(&finished, vec![p.validation(1, 0, false)]).unwrap();
    let invalid = p.after(&challenged, vec![p.vote(1, 2, false)]).unwrap();
    assert_eq!((invalid.balance(), invalid.stats()[1].invalid, invalid.stats()[1].cost), (999_000 - 50, 1, 0));
    let broke = State::begin(p.binding(Terms { fee_per_nonce: 2_000_000, ..terms() }));
    assert!(matches!(p.after(&broke, vec![]), Err(StepError::Fee(Nonce(1)))));
    let members = Group::alone(p.owner.address().unwrap());
    let costly = Terms { create_fee: 2, ..terms() };
    let refused = Binding::new(ESCROW.parse().unwrap(), p.owner.address().unwrap(), 1, costly, members);
    assert_eq!(refused.unwrap_err(), TermsError::Fee { amount: 1, fee: 2 });
}

/// A member that has several slots speaks once, with the weight of them all; one that signs with another key binds it.
#[test]
fn a_member_may_have_several_slots_and_another_key() {
    let parties = Parties::new(3);
    let p = &parties;
    let address = |slot: u32| p.key(slot).address().unwrap();
    let warm = Key::from_hex(&"77".repeat(32)).unwrap();
    let member = |slot| Member { address: address(slot), warm_key: (slot == 2).then(|| warm.address().unwrap()) };
    let group = Group::new(vec![member(0), member(1), member(0), member(2)]).unwrap();
    let binding = Binding::new(ESCROW.parse().unwrap(), p.owner.address().unwrap(), 1_000_000, terms(), group).unwrap();
    let state = p.after(&State::begin(binding), vec![start(1)]).unwrap();
    assert_eq!(state.slots_of(&address(0)), [Slot(0), Slot(2)]);
    assert_eq!(state.slots_of(&warm.address().unwrap()), [Slot(3)]);
    assert!(state.is_member(&warm.address().unwrap()) && !state.is_member(&p.owner.address().unwrap()));
    // Two slots of one member are more than one vote.
    let over = p.after(&state, vec![p.timeout(1, Reason::Refused, &[0])]).unwrap();
    assert_eq!(over.inference(InferenceId(1)).unwrap().status, Status::TimedOut);
    assert_eq!(p.tx_error(&state, p.timeout(1, Reason::Refused, &[0, 2])), TxError::Twice(2));
    // Inference 3 is slot 3's, whose member signs with the other key.
    let state = p.after(&p.after(&state, vec![]).unwrap(), vec![start(3)]).unwrap();
    let root = state.root();
    let signature = state.receipt(&warm, InferenceId(3), 1_000).unwrap().to_vec();
    let confirm = Tx::of(Kind::Confirm(Confirm { inference_id: 3, executor_sig: signature, confirmed_at: 1_000 }));
    let step = p.step(&state, vec![confirm]);
    let bound = state.after(&step, Trust::Nobody).unwrap();
    assert_eq!(bound, state.after(&step, Trust::Stored).unwrap(), "a stored step binds it too");
    assert_eq!(bound.warm.get(&Slot(3)), warm.address().as_ref());
    assert_ne!(bound.root(), root);
}

fn payload(prompt: &str) -> Payload {
    Payload {
        prompt: prompt.as_bytes().to_vec(),
        model: "llama".to_owned(),
        input_length: 100,
        max_tokens: 50,
        started_at: 1_000,
        session_id: None,
    }
}

#[test]
fn a_timeout_is_judged_by_what_is_known() {
    let parties = Parties::new(3);
    let p = &parties;
    let asked = payload(r#"{"b": 1, "a": [1.0]}"#);
    let Some(Kind::Start(plain)) = start(1).kind else { unreachable!() };
    let start = Tx::of(Kind::Start(Start { prompt_hash: asked.prompt_hash().to_vec(), ..plain }));
    let pending = p.after(&State::begin(p.binding(terms())), vec![start]).unwrap();
    let id = InferenceId(1);
    let other = payload("{}");
    let refused = |payload, known: &[Tx], now| pending.judge(id, Reason::Refused, payload, known, now);
    assert_eq!(refused(Some(&asked), &[], 1_059), Ok(Judgement::No(No::Early)));
    assert_eq!(refused(Some(&asked), &[], 1_060), Ok(Judgement::AskExecutor));
    assert_eq!(refused(Some(&other), &[], 1_060), Ok(Judgement::No(No::OtherPayload)));
    assert_eq!(refused(None, &[], 1_060), Err(JudgeError::NoPayload));
    assert_eq!(refused(Some(&asked), &[p.confirm(1)], 1_060), Ok(Judgement::No(No::Confirmed)));
    assert_eq!(refused(Some(&asked), &[p.finish(1)], 1_060), Ok(Judgement::No(No::Finished)));
    assert_eq!(refused(Some(&asked), &[p.confirm(2)], 1_060), Ok(Judgement::AskExecutor));
    assert!(matches!(pending.judge(id, Reason::Execution, None, &[], 9_999), Err(JudgeError::Status { .. })));
    assert_eq!(pending.judge(InferenceId(2), Reason::Refused, None, &[], 0), Err(JudgeError::NotLive(InferenceId(2))));
    let started = with(p, 1, vec![p.confirm(1)]);
    let execution = |known: &[Tx], now| started.judge(id, Reason::Execution, None, known, now);
    assert_eq!(execution(&[], 2_199), Ok(Judgement::No(No::Early)));
    assert_eq!(execution(&[], 2_200), Ok(Judgement::AskExecutor));
    assert_eq!(execution(&[p.confirm(1)], 2_200), Ok(Judgement::AskExecutor));
    assert_eq!(execution(&[p.finish(1)], 2_200), Ok(Judgement::No(No::Finished)));
    // What a member signs is what a step takes.
    let vote = |slot: u32| TimeoutVote {
        voter_slot: slot,
        accept: true,
        signature: started.vote_for_timeout(p.key(slot), id, Reason::Execution).to_vec(),
    };
    let votes = vec![vote(0), vote(2)];
    let timeout = Timeout { inference_id: 1, reason: Reason::Execution.into(), votes };
    assert!(p.after(&started, vec![Tx::of(Kind::Timeout(timeout))]).is_ok());
}

#[test]
fn a_payload_is_the_one_that_was_signed_for() {
    let asked = payload(r#"{"b": 1, "a": [1.0]}"#);
    let record = Inference { prompt_hash: asked.prompt_hash().to_vec(), ..pending() };
    assert_eq!(record.is_asked_by(&payload(r#"{"a":[1],"b":1}"#)), Ok(()));
    assert_eq!(record.is_asked_by(&payload(r#"{"a":[2],"b":1}"#)), Err(PayloadError::Prompt));
    for (change, expected) in [
        (Payload { model: "m".to_owned(), ..asked.clone() }, PayloadError::Model),
        (Payload { input_length: 1, ..asked.clone() }, PayloadError::InputLength),
        (Payload { max_tokens: 1, ..asked.clone() }, PayloadError::MaxTokens),
        (Payload { started_at: 1, ..asked.clone() }, PayloadError::StartedAt),
    ] {
        assert_eq!(record.is_asked_by(&change), Err(expected));
    }
}

/// What a member owes is what the next step takes, and once it is taken it is owed no more.
#[test]
fn what_is_owed_is_taken_and_owed_no_more() {
    let parties = Parties::new(3);
    let p = &parties;
    let outcome = Outcome { response_hash: [7; 32], input_tokens: 80, output_tokens: 40 };
    let executed =
        |outcome: Option<&Outcome>| Executed { id: InferenceId(1), confirmed_at: 1_000, outcome: outcome.cloned() };
    let pending = with(p, 1, vec![]);
    assert_eq!(pending.owed_of(p.key(1), &executed(None)), [p.confirm(1)]);
    let both = pending.owed_of(p.key(1), &executed(Some(&outcome)));
    assert_eq!(both.len(), 2);
    let finished = p.after(&pending, both).unwrap();
    assert_eq!(finished.owed_of(p.key(1), &executed(Some(&outcome))), []);
    let record = finished.inference(InferenceId(1)).unwrap();
    assert_eq!((&record.response_hash[..], record.actual_cost), (&[7; 32][..], 120));

    let check = |is_valid| Checked { id: InferenceId(1), is_valid };
    let word = finished.owed_of_check(p.key(0), Slot(0), check(false)).unwrap();
    let challenged = p.after(&finished, vec![word]).unwrap();
    assert_eq!(challenged.owed_of_check(p.key(0), Slot(0), check(false)), None);
    let vote = challenged.owed_of_check(p.key(2), Slot(2), check(false)).unwrap();
    let invalid = p.after(&challenged, vec![vote]).unwrap();
    assert_eq!(invalid.inference(InferenceId(1)).unwrap().status, Status::Invalidated);
    assert_eq!(invalid.owed_of_check(p.key(2), Slot(2), check(false)), None);
}

/// The draws are the upstream's: its seed, its hash and its integers.
#[test]
fn a_member_checks_what_it_draws() {
    let parties = Parties::new(5);
    let p = &parties;
    let finished = with(p, 1, vec![p.confirm(1), p.finish(1)]);
    let seed = Seed::of(p.key(0), &ESCROW.parse().unwrap());
    let drawn = |rate| (1..=1_000).filter(|id| seed.draws(InferenceId(*id), 1, 4, rate)).count();
    assert_eq!((drawn(0), drawn(40_000)), (0, 1_000));
    assert!((200..300).contains(&drawn(10_000)), "{}", drawn(10_000));
    assert!(!seed.draws(InferenceId(1), 1, 0, 10_000), "nobody is left to check it");
    // As counted by another implementation.
    let won = |mine, others, rate| {
        let draws = move |id: &u64| Seed::from_number(42).draws(InferenceId(*id), mine, others, rate);
        (1..=40).filter(draws).collect::<Vec<u64>>()
    };
    assert_eq!(won(1, 4, 10_000), [1, 13, 20, 21, 29, 36, 37, 39]);
    assert_eq!(won(3, 7, 5_000), [1, 13, 20, 21, 29, 36, 39]);
    // Its executor checks nothing, and what is called invalid everybody else checks.
    assert_eq!(finished.to_check(&[Slot(1)], seed).count(), 0);
    assert_eq!(finished.to_check(&[], seed).count(), 0);
    let challenged = p.after(&finished, vec![p.validation(1, 4, false)]).unwrap();
    assert_eq!(challenged.to_check(&[Slot(0)], seed).collect::<Vec<_>>(), [InferenceId(1)]);
    assert_eq!(challenged.to_check(&[Slot(4)], seed).count(), 0, "it has spoken");
}

#[test]
fn what_is_written_down_is_read_again() {
    let binding = Parties::new(3).binding(terms());
    let text = serde_json::to_string(&binding).unwrap();
    assert_eq!(serde_json::from_str::<Binding>(&text).unwrap(), binding);
    let none = text.replace(&serde_json::to_string(&binding.group).unwrap(), "[]");
    let said = serde_json::from_str::<Binding>(&none).unwrap_err().to_string();
    assert!(said.starts_with("a group has 1 to 128 members, and this one 0"), "{said}");
}

/// A transaction at random, honest or not.
fn tried(parties: &Parties, state: &State, choice: u8, id: u64, slot: u32) -> Tx {
    match choice % 8 {
        0 | 1 => start(state.latest().0 + 1),
        2 => parties.confirm(id),
        3 => parties.finish(id),
        4 => parties.validation(id, slot, choice < 128),
        5 => parties.vote(id, slot, choice < 128),
        6 => {
            parties.timeout(id, if choice < 128 { Reason::Refused } else { Reason::Execution }, &[slot, (slot + 1) % 3])
        }
        _ => {
            if choice == 255 {
                finalize()
            } else {
                start(id)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever members and owner try: no money appears or is lost, what is refused changes nothing, and whoever
    /// replays what was stored is where the others are.
    #[test]
    fn money_and_history_hold(tries in prop::collection::vec((any::<u8>(), 0_u64..12, 0_u32..3), 1..40)) {
        let parties = Parties::new(3);
        let begun = State::begin(parties.binding(Terms { create_fee: 100, fee_per_nonce: 7, ..terms() }));
        let (mut state, mut stored) = (begun.clone(), vec![]);
        // What is sealed leaves the state, with what was earned: that is followed from outside.
        for (choice, back, slot) in tries {
            let id = state.latest().0.saturating_sub(back);
            let step = parties.step(&state, vec![tried(&parties, &state, choice, id, slot)]);
            let before = state.clone();
            match state.after(&step, Trust::Nobody) {
                Ok(next) => {
                    state = next;
                    stored.push(step);
                }
                Err(_) => prop_assert_eq!(&before, &state),
            }
            let kept: u64 = state.live().filter(|(_, found)| matches!(found.status, Status::Pending | Status::Started))
                .map(|(_, found)| found.reserved_cost).sum();
            let earned: u64 = state.stats().iter().map(|stats| stats.cost).sum();
            if state.phase() != Phase::Settlement {
                prop_assert_eq!(state.balance() + state.fees() + kept + earned, 1_000_000);
            }
        }
        let replayed = stored.iter().fold(begun, |state, step| state.after(step, Trust::Stored).unwrap());
        prop_assert_eq!(replayed.root(), state.root());
        prop_assert_eq!(replayed, state);
    }
}

/// One host's storing, up to where it may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    Never,
    /// The place of record refuses.
    BeforeStored,
    /// The host dies before it has heard that its steps are stored.
    BeforeHeard,
}

/// What a host does with a request, as its shell does it.
fn take(memory: &mut State, stored: &mut Vec<Diff>, diffs: &[Diff], failing: Failing) -> Result<bool, String> {
    loop {
        let planned = plan(memory, diffs).map_err(|error| error.code().to_owned());
        let is_ahead = stored.len() > usize::try_from(memory.latest().0).unwrap();
        if is_ahead {
            // Others have appended: what they have is read, and the request planned behind it.
            let next = usize::try_from(memory.latest().0).unwrap();
            *memory = memory.after(&stored[next], Trust::Stored).unwrap();
            continue;
        }
        let planned = planned?;
        for diff in planned.known {
            let there = &stored[usize::try_from(diff.nonce.0).unwrap() - 1];
            compare(there, diff).map_err(|Fork(_)| "diff_fork".to_owned())?;
        }
        if failing == Failing::BeforeStored || planned.steps.is_empty() {
            return Ok(false);
        }
        stored.extend(planned.steps.iter().map(|step| step.diff.clone()));
        if failing == Failing::Never {
            *memory = planned.next;
        }
        return Ok(true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S03: whatever comes to whichever host in whatever order, however storing fails, a nonce keeps its first bytes,
    /// no nonce is skipped, and no host knows more than is stored.
    #[test]
    fn s03_a_nonce_keeps_its_first_bytes(
        given in prop::collection::vec((0_usize..3, 0_u64..6, 1_u64..3, any::<bool>(), 0_u8..8), 0..24),
    ) {
        let parties = Parties::new(2);
        let begun = State::begin(parties.binding(Terms { max_nonce: 100, ..terms() }));
        let mut hosts = vec![begun.clone(); 3];
        let mut stored: Vec<Diff> = Vec::new();
        for (host, nonce, count, is_other, dice) in given {
            let failing = match dice {
                0 => Failing::BeforeStored,
                1 => Failing::BeforeHeard,
                _ => Failing::Never,
            };
            // The same nonce comes with one of two contents.
            let diffs: Vec<Diff> = (nonce..nonce + count).map(|nonce| parties.blank(nonce, is_other)).collect();
            let before = stored.clone();
            let said = take(&mut hosts[host], &mut stored, &diffs, failing);
            let latest = u64::try_from(before.len()).unwrap();
            let is_fork = diffs.iter().any(|diff| {
                diff.nonce.0 >= 1 && diff.nonce.0 <= latest && before[usize::try_from(diff.nonce.0).unwrap() - 1] != *diff
            });
            if nonce == 0 || nonce > latest + 1 {
                prop_assert_eq!(said, Err("step_not_next".to_owned()));
            } else if is_fork {
                prop_assert_eq!(said, Err("diff_fork".to_owned()));
            } else {
                let is_new = nonce + count - 1 > latest && failing != Failing::BeforeStored;
                prop_assert_eq!(said, Ok(is_new));
            }
            prop_assert_eq!(&stored[..before.len()], &before[..]);
            let nonces: Vec<u64> = stored.iter().map(|diff| diff.nonce.0).collect();
            prop_assert_eq!(nonces, (1..=u64::try_from(stored.len()).unwrap()).collect::<Vec<_>>());
            for memory in &hosts {
                let there = usize::try_from(memory.latest().0).unwrap();
                prop_assert!(there <= stored.len());
                let replayed = stored[..there].iter().fold(begun.clone(), |state, diff| {
                    state.after(diff, Trust::Stored).unwrap()
                });
                prop_assert_eq!(&replayed, memory);
            }
        }
    }
}
