use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use supervisor_protocol::contract::DrainMode;

use super::*;

fn state(next_generation: u64) -> LedgerState {
    LedgerState { next_generation, ..LedgerState::default() }
}

fn reopen(directory: &Path) -> LedgerState {
    Ledger::open(directory).unwrap().1
}

/// Writes two states and returns the path of the slot that holds the second, with its bytes before and
/// after that write.
fn two_writes(directory: &Path) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let (mut ledger, _) = Ledger::open(directory).unwrap();
    ledger.write(&state(7)).unwrap();
    let path = directory.join(if ledger.current == Which::First { "ledger.1" } else { "ledger.0" });
    let before = fs::read(&path).unwrap();
    ledger.write(&state(8)).unwrap();
    let after = fs::read(&path).unwrap();
    (path, before, after)
}

/// The bytes of a slot that mean something.
fn used(bytes: &[u8]) -> usize {
    64 + usize::try_from(u64::from_le_bytes(bytes[24..32].try_into().unwrap())).unwrap()
}

#[test]
fn what_was_written_last_is_read_and_the_first_start_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let (mut ledger, first) = Ledger::open(directory.path()).unwrap();
    assert_eq!(first, LedgerState::default());
    for number in 2..12 {
        ledger.write(&LedgerState { cordon: Some(DrainMode::All), ..state(number) }).unwrap();
    }
    drop(ledger);
    let read = reopen(directory.path());
    assert_eq!((read.next_generation, read.cordon), (11, Some(DrainMode::All)));
}

#[test]
fn a_second_supervisor_is_refused_by_the_first_ones_number() {
    let directory = tempfile::tempdir().unwrap();
    let first = Ledger::open(directory.path()).unwrap();
    match Ledger::open(directory.path()) {
        Err(LedgerError::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(first);
    reopen(directory.path());
}

/// As it is when versiond is killed between the fork of a child and its exec.
#[test]
fn a_lock_that_outlives_its_dead_owner_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let path = directory.path().join("lock");
    fs::write(&path, format!("{}\n", dead.id())).unwrap();
    let orphaned = File::open(&path).unwrap();
    orphaned.lock().unwrap();
    let (sender, opened) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(Ledger::open(directory.path()).is_ok()).unwrap());
        assert!(opened.recv_timeout(Duration::from_millis(50)).is_err());
        drop(orphaned);
        assert!(opened.recv().unwrap());
    });
}

#[test]
fn f45_the_room_of_both_slots_is_taken_at_the_start_and_never_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(directory.path()).unwrap();
    let room = || {
        ["ledger.0", "ledger.1"].map(|name| {
            let meta = fs::metadata(directory.path().join(name)).unwrap();
            (meta.len(), meta.blocks() * 512 >= CAPACITY as u64)
        })
    };
    assert_eq!(room(), [(CAPACITY as u64, true); 2]);
    for number in 2..6 {
        ledger.write(&state(number)).unwrap();
    }
    assert_eq!(room(), [(CAPACITY as u64, true); 2]);
}

#[test]
fn two_damaged_slots_are_an_error_not_a_fresh_start() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ..) = two_writes(directory.path());
    drop(reopen(directory.path()));
    let other = directory.path().join(if path.ends_with("ledger.0") { "ledger.1" } else { "ledger.0" });
    fs::write(&path, b"x").unwrap();
    fs::write(&other, b"").unwrap();
    assert!(matches!(Ledger::open(directory.path()), Err(LedgerError::Corrupt { .. })));
}

#[test]
fn a_newer_schema_is_refused_by_name_and_a_large_state_before_it_harms() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ..) = two_writes(directory.path());
    fs::write(&path, slot::encode(99, LEDGER_SCHEMA + 1, b"{}").unwrap()).unwrap();
    match Ledger::open(directory.path()) {
        Err(LedgerError::NewerSchema { found, .. }) => assert_eq!(found, LEDGER_SCHEMA + 1),
        other => panic!("{other:?}"),
    }
    assert!(matches!(slot::encode(1, 1, &vec![0; CAPACITY]), Err(LedgerError::TooLarge { .. })));
}

#[test]
fn p7_a_lost_slot_is_made_again_and_the_other_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ..) = two_writes(directory.path());
    fs::remove_file(&path).unwrap();
    let (mut ledger, read) = Ledger::open(directory.path()).unwrap();
    assert_eq!(read, state(7));
    ledger.write(&state(9)).unwrap();
    drop(ledger);
    assert_eq!(reopen(directory.path()), state(9));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    // P7, F44: power lost at any byte of a write.
    #[test]
    fn f44_a_write_torn_at_any_byte_leaves_the_state_before_or_after(at in 0.0..=1.0f64) {
        let directory = tempfile::tempdir().unwrap();
        let (path, before, after) = two_writes(directory.path());
        let length = used(&after);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let at = (length as f64 * at) as usize;
        let torn: Vec<u8> = after[..at].iter().chain(&before[at..]).copied().collect();
        // The bytes may be the same from here on: then the write was whole.
        let expected = if torn[..length] == after[..length] { state(8) } else { state(7) };
        fs::write(&path, torn).unwrap();

        let (mut ledger, read) = Ledger::open(directory.path()).unwrap();
        prop_assert_eq!(read, expected);
        ledger.write(&state(9)).unwrap();
        drop(ledger);
        prop_assert_eq!(reopen(directory.path()), state(9));
    }

    #[test]
    fn f44_a_slot_cut_or_damaged_anywhere_is_not_believed(at in any::<prop::sample::Index>(), span in 1usize..64, flip in 1u8.., cut: bool) {
        let directory = tempfile::tempdir().unwrap();
        let (path, _, mut bytes) = two_writes(directory.path());
        let length = used(&bytes);
        let at = at.index(length);
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at..length.min(at + span)].iter_mut().for_each(|byte| *byte ^= flip);
        }
        fs::write(&path, bytes).unwrap();
        prop_assert_eq!(reopen(directory.path()), state(7));
        prop_assert_eq!(fs::metadata(&path).unwrap().len(), CAPACITY as u64);
    }
}
