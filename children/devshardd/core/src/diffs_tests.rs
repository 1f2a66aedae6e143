use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn diff(nonce: u64, text: &str) -> Diff {
    let bytes = text.as_bytes().to_vec();
    Diff { nonce: Nonce(nonce), txs: bytes.clone(), user_sig: bytes.clone(), post_state_root: bytes }
}

/// The place of record: the first diff that is stored for a nonce stays.
type Stored = BTreeMap<u64, (Diff, [u8; 32])>;

/// One host's appending, up to where it may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    Never,
    /// The place of record refuses.
    BeforeStored,
    /// The host dies before it has heard that its diff is stored.
    BeforeHeard,
}

fn append(log: &mut Log, stored: &mut Stored, diff: &Diff, failing: Failing) -> Result<bool, LogError> {
    // Each turn but the last brings the head on.
    for _ in 0..20 {
        match log.plan(diff) {
            Ok(Plan::Append(planned)) => {
                if let Some((there, state_hash)) = stored.get(&diff.nonce.0).cloned() {
                    // Another host was first: what it has stored is read, and the diff judged by it.
                    log.loaded(&there, &state_hash)?;
                    continue;
                }
                if failing == Failing::BeforeStored {
                    return Ok(false);
                }
                stored.insert(diff.nonce.0, (planned.diff().clone(), planned.state_hash()));
                if failing == Failing::Never {
                    log.persisted(planned)?;
                }
                return Ok(true);
            }
            Ok(Plan::Compare) => return Ok(compare(&stored[&diff.nonce.0].0, diff).map(|_| false)?),
            Ok(Plan::Already) => return Ok(false),
            Err(error) => {
                let before = log.head();
                for nonce in error.missing().into_iter().flatten() {
                    let Some((there, state_hash)) = stored.get(&nonce) else { break };
                    log.loaded(there, state_hash)?;
                }
                if log.head() == before {
                    return Err(error.into());
                }
            }
        }
    }
    panic!("diff {} is never judged", diff.nonce)
}

proptest! {
    /// S03: whatever comes to whichever host in whatever order, however storing fails, a nonce keeps its first bytes,
    /// no nonce is skipped, and no host knows more than is stored.
    #[test]
    fn s03_a_nonce_keeps_its_first_bytes(
        given in prop::collection::vec((0_usize..3, 0_u64..8, "[ab]", 0_u8..8), 0..60),
    ) {
        let mut hosts = vec![Log::ending_at(Head::START); 3];
        let mut stored = Stored::new();
        let mut model: Vec<String> = Vec::new();
        for (host, nonce, text, dice) in given {
            let failing = match dice {
                0 => Failing::BeforeStored,
                1 => Failing::BeforeHeard,
                _ => Failing::Never,
            };
            let said = append(&mut hosts[host], &mut stored, &diff(nonce, &text), failing);
            let latest = u64::try_from(model.len()).unwrap();
            let expected = match nonce {
                0 => Err(DiffError::Zero.into()),
                nonce if nonce > latest + 1 => Err(DiffError::Gap { latest: Nonce(latest), got: Nonce(nonce) }.into()),
                nonce if nonce == latest + 1 && failing == Failing::BeforeStored => Ok(false),
                nonce if nonce == latest + 1 => {
                    model.push(text);
                    Ok(true)
                }
                nonce if model[usize::try_from(nonce).unwrap() - 1] == text => Ok(false),
                nonce => Err(DiffError::Fork(Nonce(nonce)).into()),
            };
            prop_assert_eq!(said, expected);
            let kept: Vec<_> = stored.values().map(|(diff, _)| String::from_utf8(diff.txs.clone()).unwrap()).collect();
            prop_assert_eq!(&kept, &model);
            for log in &hosts {
                let head = log.head();
                let there = stored.get(&head.nonce.0).map_or(Head::START.state_hash, |(_, state_hash)| *state_hash);
                prop_assert_eq!(head.state_hash, there, "at {}", head.nonce);
            }
        }
    }
}

fn planned<'a>(log: &Log, diff: &'a Diff) -> Planned<'a> {
    match log.plan(diff) {
        Ok(Plan::Append(planned)) => planned,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_planned_moves_nothing_and_fits_one_place() {
    let mut log = Log::ending_at(Head::START);
    let (one, other) = (diff(1, "a"), diff(1, "b"));
    let (first, second) = (planned(&log, &one), planned(&log, &other));
    assert_eq!(log.head(), Head::START);
    let head = log.persisted(first).unwrap();
    assert_eq!((head.nonce, log.head()), (Nonce(1), head));
    assert_eq!(log.persisted(second), Err(LogError::Moved { planned: Nonce(1), latest: Nonce(1) }));
    assert_eq!(log.head(), head);
}

#[test]
fn what_is_missing_is_named() {
    let log = Log::ending_at(Head { nonce: Nonce(4), state_hash: [1; 32] });
    let said = log.plan(&diff(8, "a")).unwrap_err();
    assert_eq!((said.code(), said.missing()), ("diff_gap", Some(5..=7)));
    assert_eq!(said.to_string(), "diff 8 follows diff 4: those between are missing");
    let last = Log::ending_at(Head { nonce: Nonce(u64::MAX), state_hash: [1; 32] });
    assert_eq!(last.plan(&diff(u64::MAX, "a")), Ok(Plan::Compare));
    assert_eq!(log.plan(&diff(u64::MAX, "a")).unwrap_err().missing(), Some(5..=u64::MAX - 1));
    assert_eq!(DiffError::Fork(Nonce(1)).missing(), None);
}

/// S17: a place of record that was put in the place of ours has other states.
#[test]
fn s17_what_is_loaded_must_follow_from_what_was_known() {
    let (one, two) = (diff(1, "a"), diff(2, "b"));
    let mut writer = Log::ending_at(Head::START);
    let first = planned(&writer, &one).state_hash();
    let mut reader = writer.clone();
    assert_eq!(reader.loaded(&one, &[9; 32]), Err(LogError::State(Nonce(1))));
    assert_eq!(reader.head(), Head::START);
    assert_eq!(reader.loaded(&two, &first), Err(DiffError::Gap { latest: Nonce(0), got: Nonce(2) }.into()));
    reader.loaded(&one, &first).unwrap();
    assert_eq!(reader.loaded(&one, &first), Err(LogError::Moved { planned: Nonce(1), latest: Nonce(1) }));
    let plan = planned(&writer, &one);
    writer.persisted(plan).unwrap();
    assert_eq!(reader, writer);
}

#[test]
fn every_byte_of_a_diff_is_compared() {
    let there = diff(1, "a");
    assert_eq!(compare(&there, &there.clone()), Ok(Plan::Already));
    let others = [
        Diff { txs: b"b".to_vec(), ..there.clone() },
        Diff { user_sig: b"b".to_vec(), ..there.clone() },
        Diff { post_state_root: b"b".to_vec(), ..there.clone() },
    ];
    for other in others {
        assert_eq!(compare(&there, &other), Err(DiffError::Fork(Nonce(1))), "{other:?}");
    }
}

#[test]
fn the_state_depends_on_everything_before_it() {
    let after = |texts: &[&str]| {
        let (mut log, mut stored) = (Log::ending_at(Head::START), Stored::new());
        for (at, text) in texts.iter().enumerate() {
            append(&mut log, &mut stored, &diff(at as u64 + 1, text), Failing::Never).unwrap();
        }
        log.head().state_hash
    };
    assert_eq!(after(&["a", "b"]), after(&["a", "b"]));
    assert_ne!(after(&["a", "b"]), after(&["b", "b"]));
    assert_ne!(after(&["a"]), Head::START.state_hash);
    // Where one part ends and the next begins counts, too.
    let cut = |txs: &str, root: &str| {
        let diff = Diff { txs: txs.into(), post_state_root: root.into(), ..diff(1, "") };
        planned(&Log::ending_at(Head::START), &diff).state_hash()
    };
    assert_ne!(cut("ab", "c"), cut("a", "bc"));
}
