//! The hosts of several operators, who execute and check the inferences of one session in turn: what they agree on, what
//! they say of each other, and what becomes of one that lies or is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_postgres::Postgres;
use versiond_demo::sessions::client::{End, Heard, Session, account, key, look};
use versiond_demo::sessions::host::{Host, free_address};
use versiond_demo::sessions::model;
use versiond_demo::sessions::step::{Inference, Said, said, timeout};

use crate::common::release;

const ESCROW: &str = "e-1";
const TOKENS: u32 = 4;
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The members of a group, in the order of their slots, and the owner of its session.
struct Group {
    folder: tempfile::TempDir,
    owner: Session,
    addresses: Vec<SocketAddr>,
    /// Steps that have been taken.
    steps: Vec<Value>,
    /// How many of them each host has.
    known: BTreeMap<SocketAddr, usize>,
}

impl Group {
    fn new(members: usize) -> Group {
        let folder = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..members).map(|_| free_address().unwrap()).collect();
        let place = |(slot, address): (usize, &SocketAddr)| json!({"address": account(&key(&format!("member {slot}"))), "url": format!("http://{address}")});
        let places: Vec<Value> = addresses.iter().enumerate().map(place).collect();
        // Everybody draws everything, and times are short.
        let terms = json!({"validation_rate": 10_000 * members, "create_fee": 100, "fee_per_nonce": 1,
            "refusal_timeout_s": 5, "execution_timeout_s": 5});
        let owner = account(&key(ESCROW));
        let escrow = json!({"creator": owner, "epoch": 7, "amount": 1_000_000, "terms": terms, "group": places});
        std::fs::write(folder.path().join("escrows.json"), json!({ESCROW: escrow}).to_string()).unwrap();
        for slot in 0..members {
            let secret: String =
                key(&format!("member {slot}")).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            std::fs::write(folder.path().join(format!("key-{slot}")), secret).unwrap();
        }
        Group { folder, owner: Session::new(ESCROW), addresses, steps: Vec::new(), known: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a process of a member; `name` is that of its folder.
    fn start(&self, slot: usize, name: &str, address: SocketAddr, more: &[(&str, String)]) -> Host {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        let shown = |path: PathBuf| path.display().to_string();
        let settings = [
            ("DEVSHARD_KEY_FILE", shown(self.path(&format!("key-{slot}")))),
            ("DEVSHARD_ESCROWS_FILE", shown(self.path("escrows.json"))),
            ("DEVSHARD_ECHO_EVERY", "1ms".to_owned()),
            ("DEVSHARD_ECHO_JOURNAL", shown(self.path(&format!("journal-{slot}")))),
        ];
        Host::start_in(&release("devshardd"), &folder, address, &[&settings[..], more].concat()).unwrap()
    }

    /// All of them, who check each other.
    fn all(&self) -> Vec<Host> {
        let rerun = [("DEVSHARD_VALIDATION", "rerun".to_owned())];
        let start = |(slot, address): (usize, &SocketAddr)| self.start(slot, &format!("host-{slot}"), *address, &rerun);
        self.addresses.iter().enumerate().map(start).collect()
    }

    /// The number of the next step.
    fn next(&self) -> u64 {
        u64::try_from(self.steps.len()).unwrap() + 1
    }

    /// The next step, with what members have said.
    fn step(&mut self, owed: &[Vec<u8>], started_at: Option<u64>) -> Option<Inference> {
        let nonce = self.next();
        let asked = started_at.map(|started_at| Inference { nonce, tokens: TOKENS, started_at });
        self.steps.push(self.owner.step(nonce, owed, asked.as_ref()));
        asked
    }

    /// Brings a host what it lacks, and asks for the inference of the last step, or for nothing.
    async fn bring(&mut self, host: SocketAddr, asked: Option<&Inference>) -> Heard {
        let known = self.known.insert(host, self.steps.len()).unwrap_or(0);
        let from = known.min(self.steps.len() - 1);
        self.owner.brings(&self.steps[from..], asked).send(host).await
    }

    /// An inference at the member whose turn it is.
    async fn infers(&mut self, owed: &[Vec<u8>]) -> Heard {
        let asked = self.step(owed, Some(now())).unwrap();
        let executor = self.addresses[usize::try_from(asked.nonce).unwrap() % self.addresses.len()];
        self.bring(executor, Some(&asked)).await
    }

    /// A step that says what members have said, to everybody. What they answer must be the same state.
    async fn says(&mut self, owed: &[Vec<u8>], hosts: &[SocketAddr]) {
        self.step(owed, None);
        let mut states = BTreeSet::new();
        for host in hosts {
            let heard = self.bring(*host, None).await;
            assert_eq!(heard.end, End::Whole, "{heard:?}");
            states.insert(receipt(&heard)["state_hash"].to_string());
        }
        assert_eq!(states.len(), 1, "{states:?}");
    }

    async fn asks(&self, host: SocketAddr, route: &str, body: &Value) -> (u16, Value) {
        self.owner.sign(&format!("/sessions/{ESCROW}/{route}"), body.to_string()).ask(host).await.unwrap()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn receipt(heard: &Heard) -> Value {
    serde_json::from_str::<Value>(&heard.events[0].1).unwrap()["devshard_receipt"].clone()
}

/// What a host has to say, and has heard of others.
async fn mempool(host: SocketAddr) -> Vec<Vec<u8>> {
    let (status, mempool) = look(host, &format!("/sessions/{ESCROW}/mempool")).await.unwrap();
    assert_eq!(status, 200, "{mempool}");
    decoded(&mempool["txs"])
}

fn decoded(txs: &Value) -> Vec<Vec<u8>> {
    txs.as_array().into_iter().flatten().map(|tx| STANDARD.decode(tx.as_str().unwrap()).unwrap()).collect()
}

fn read(txs: &[Vec<u8>]) -> BTreeSet<(Said, u64)> {
    txs.iter().map(|tx| said(tx).unwrap()).collect()
}

/// Waits until a host has this to say.
async fn until_said(host: SocketAddr, expected: &[(Said, u64)]) -> Vec<Vec<u8>> {
    let begun = Instant::now();
    loop {
        let txs = mempool(host).await;
        if read(&txs) == expected.iter().copied().collect() {
            return txs;
        }
        assert!(begun.elapsed() < WITHIN, "{host} says {:?}, and not {expected:?}", read(&txs));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Three operators take turns: everybody computes the same states, signs them and hears the others' signatures, and
/// checks what the others have answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_agrees_on_what_it_has_done() {
    let mut group = Group::new(3);
    let _hosts = group.all();
    let hosts = group.addresses.clone();
    let mut owed = Vec::new();
    for turn in 1..=3 {
        let heard = group.infers(&owed).await;
        assert_eq!(heard.is_whole(TOKENS), Ok(()));
        assert!(receipt(&heard)["receipt"].is_string(), "{heard:?}");
        // What it has checked meanwhile is told at the end.
        owed = heard.owed();
        owed.retain(|tx| matches!(said(tx), Some((Said::Confirm | Said::Finish, _))));
        assert_eq!(read(&owed), [(Said::Confirm, turn), (Said::Finish, turn)].into());
    }
    group.says(&owed, &hosts).await;
    // Each has checked what the two others have said.
    let valid = |ids: [u64; 2]| ids.map(|id| (Said::Validation(true), id));
    let mut words = Vec::new();
    for (host, ids) in hosts.iter().zip([[1, 2], [2, 3], [1, 3]]) {
        words.extend(until_said(*host, &valid(ids)).await);
    }
    group.says(&words, &hosts).await;
    for host in &hosts {
        assert_eq!(mempool(*host).await, Vec::<Vec<u8>>::new(), "what a step holds is owed no more");
    }
    // More than two thirds have signed the state: each has heard of it from the others.
    let begun = Instant::now();
    for host in &hosts {
        loop {
            let (_, signed) = look(*host, &format!("/sessions/{ESCROW}/signatures?nonce=5")).await.unwrap();
            if signed["last_finalized"] == 5 {
                assert_eq!(signed["signatures"].as_object().unwrap().len(), 3);
                break;
            }
            assert!(begun.elapsed() < WITHIN, "{signed}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    // A member that has been told of later steps reads them from whoever has them.
    group.step(&[], None);
    assert_eq!(group.bring(hosts[0], None).await.end, End::Whole);
    let begun = Instant::now();
    loop {
        let (_, diffs) = look(hosts[1], &format!("/sessions/{ESCROW}/diffs?from=6&to=6")).await.unwrap();
        if diffs.as_array().unwrap().len() == 1 {
            break;
        }
        assert!(begun.elapsed() < WITHIN, "{diffs}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // What is not signed by a member is nobody's word.
    let gossip = json!({"nonce": 6, "state_hash": STANDARD.encode([1; 32]), "state_sig": STANDARD.encode([1; 65]), "slot_id": 0});
    let (status, said) = group.asks(hosts[1], "gossip/nonce", &gossip).await;
    assert_eq!((status, &said["error"]["code"]), (403, &json!("not_member")));
}

/// One member's model says something else than the others': they call its answer invalid, and their votes are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_answers_otherwise_is_outvoted() {
    let mut group = Group::new(3);
    let model = model::serve(Duration::ZERO).await.unwrap();
    let hosts = group.addresses.clone();
    let rerun = [("DEVSHARD_VALIDATION", "rerun".to_owned())];
    let _honest: Vec<Host> = [0, 2].map(|slot| group.start(slot, &format!("host-{slot}"), hosts[slot], &rerun)).into();
    let _other = group.start(1, "host-1", hosts[1], &[("DEVSHARD_ENGINE", format!("http://{model}"))]);
    let heard = group.infers(&[]).await;
    assert_eq!(heard.end, End::Whole);
    group.says(&heard.owed(), &hosts).await;
    let invalid = until_said(hosts[0], &[(Said::Validation(false), 1)]).await;
    until_said(hosts[2], &[(Said::Validation(false), 1)]).await;
    group.says(&invalid, &hosts).await;
    // It has been called invalid: the other's word is a vote now.
    let vote = until_said(hosts[2], &[(Said::Vote(false), 1)]).await;
    group.says(&vote, &hosts).await;
    assert_eq!(read(&mempool(hosts[2]).await), BTreeSet::new());
}

/// S04: two processes of one member share their checks: each inference is checked once, and what one has found the
/// other says, also when the first is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_a_check_outlives_its_process() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create("member").unwrap();
    let mut group = Group::new(2);
    let hosts = group.addresses.clone();
    let shared = [
        ("DEVSHARD_VALIDATION", "rerun".to_owned()),
        ("DEVSHARD_STORAGE_MODE", "shared".to_owned()),
        ("DEVSHARD_DATABASE_URL", url),
    ];
    let beside = free_address().unwrap();
    let first = group.start(0, "host-0", hosts[0], &shared);
    let _second = group.start(0, "host-0-beside", beside, &shared);
    let _other = group.start(1, "host-1", hosts[1], &[]);
    let mut owed = group.infers(&[]).await.owed();
    group.says(&owed, &hosts).await;
    owed = group.infers(&[]).await.owed();
    group.says(&owed, &[hosts[0], beside]).await;
    let words = [(Said::Validation(true), 1), (Said::Validation(true), 3)];
    let before = until_said(hosts[0], &words).await;
    let submitted = "SELECT count(*) FROM devshard_validation_leases WHERE status = 'submitted'";
    assert_eq!(postgres.sql("member", submitted).unwrap(), "2");
    let journal = std::fs::read_to_string(group.path("journal-0")).unwrap();
    let checks: Vec<&str> = journal.lines().filter(|line| line.ends_with("-check")).collect();
    assert_eq!(checks.iter().copied().collect::<BTreeSet<_>>().len(), checks.len(), "{checks:?}");
    drop(first);
    assert_eq!(until_said(beside, &words).await, before, "to the byte: what is said twice is one word");
}

/// An executor that has not begun begins when it is shown the inference, and the vote is refused; for one that is gone
/// the others vote, and the inference is called off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_is_voted_for_when_its_executor_is_gone() {
    let mut group = Group::new(3);
    let hosts = group.addresses.clone();
    let start = |group: &Group, slot: usize| group.start(slot, &format!("host-{slot}"), hosts[slot], &[]);
    let (_a, _b, c) = (start(&group, 0), start(&group, 1), start(&group, 2));
    // Inference 1 is the second member's, who has never heard of it.
    let late = now() - 60;
    let asked = group.step(&[], Some(late)).unwrap();
    let heard = group.bring(hosts[0], Some(&asked)).await;
    assert_eq!((&heard.end, receipt(&heard)["receipt"].is_null()), (&End::Whole, true), "it is another's");
    let question = |asked: &Inference, reason: &str| json!({"inference_id": asked.nonce, "reason": reason, "payload": asked.payload(), "diffs": []});
    let (status, said) = group.asks(hosts[0], "verify-timeout", &question(&asked, "refused")).await;
    assert_eq!((status, &said["accept"], &said["reason"]), (200, &json!(false), &json!("confirmed")), "{said}");
    let shown = decoded(&said["mempool"]);
    assert_eq!(read(&shown).first(), Some(&(Said::Confirm, 1)));
    // It runs: both its words are on their way, and the owner gets what was said.
    let words = until_said(hosts[1], &[(Said::Confirm, 1), (Said::Finish, 1)]).await;
    let heard = group.bring(hosts[1], Some(&asked)).await;
    assert_eq!(heard.is_whole(TOKENS), Ok(()));

    // Inference 2 is the third member's, who is gone.
    drop(c);
    let asked = group.step(&words, Some(now())).unwrap();
    group.bring(hosts[0], None).await;
    let (_, said) = group.asks(hosts[0], "verify-timeout", &question(&asked, "refused")).await;
    assert_eq!((&said["accept"], &said["reason"]), (&json!(false), &json!("early")), "{said}");
    let (_, said) = group.asks(hosts[0], "verify-timeout", &question(&asked, "execution")).await;
    assert_eq!(said["error"]["code"], "no_judgement", "{said}");
    let stranger = Session::of(ESCROW, "another")
        .sign(&format!("/sessions/{ESCROW}/verify-timeout"), question(&asked, "refused").to_string());
    assert_eq!(stranger.ask(hosts[0]).await.unwrap().1["error"]["code"], "not_owner");
    group.bring(hosts[1], None).await;
    let mut votes = Vec::new();
    for host in &hosts[..2] {
        let begun = Instant::now();
        let vote = loop {
            let (_, said) = group.asks(*host, "verify-timeout", &question(&asked, "refused")).await;
            if said["accept"] == true {
                break said;
            }
            assert_eq!(said["reason"], "early", "{said}");
            assert!(begun.elapsed() < WITHIN, "{said}");
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let signature = STANDARD.decode(vote["signature"].as_str().unwrap()).unwrap();
        votes.push((vote["voter_slot"].as_u64().unwrap(), signature));
    }
    // One vote of three is not enough; two are.
    group.step(&[timeout(2, 1, &votes[..1])], None);
    let heard = group.bring(hosts[0], None).await;
    assert_eq!((heard.status, heard.end), (400, End::Typed("bad_diff".to_owned())));
    group.steps.pop();
    group.known.clear();
    group.says(&[timeout(2, 1, &votes)], &hosts[..2]).await;
    // Its executor comes back, and does not run what has been called off.
    let _c = start(&group, 2);
    let body = json!({"diffs": group.steps, "nonce": 2, "payload": asked.payload()});
    let heard =
        group.owner.sign(&format!("/sessions/{ESCROW}/chat/completions"), body.to_string()).send(hosts[2]).await;
    assert_eq!((heard.status, heard.end), (409, End::Typed("timed_out".to_owned())));
    assert_eq!(std::fs::read_to_string(group.path("journal-2")).unwrap(), "");
}

/// A request that only the model can read is passed on, run once, and answered in one piece, again and again; an engine
/// that opens nothing says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_inference_is_run_once() {
    let mut group = Group::new(1);
    let (model, host) = (model::serve(Duration::ZERO).await.unwrap(), group.addresses[0]);
    let asked = group.step(&[], Some(now())).unwrap();
    let sealed = asked.sealed(ESCROW);
    {
        let _echo = group.start(0, "host-0", host, &[]);
        assert_eq!(group.bring(host, None).await.end, End::Whole);
        let (status, said) = group.asks(host, "encrypted/chat/completions", &sealed).await;
        assert_eq!((status, &said["error"]["code"]), (501, &json!("not_supported")));
    }
    {
        // The key of somebody else: its signature would be worth nothing.
        let stranger = group.path("stranger");
        std::fs::write(&stranger, "22".repeat(32)).unwrap();
        let _stranger = group.start(0, "host-9", host, &[("DEVSHARD_KEY_FILE", stranger.display().to_string())]);
        group.known.clear();
        let heard = group.bring(host, Some(&asked)).await;
        assert_eq!((heard.status, heard.end), (409, End::Typed("not_in_group".to_owned())));
    }
    let _host = group.start(0, "host-0", host, &[("DEVSHARD_ENGINE", format!("http://{model}"))]);
    let expected: Value = serde_json::from_str(model::SEALED).unwrap();
    for _ in 0..2 {
        assert_eq!(group.asks(host, "encrypted/chat/completions", &sealed).await, (200, expected.clone()));
    }
    let mut other = sealed.clone();
    other["prompt_hash"] = json!("aGk=");
    let (status, said) = group.asks(host, "encrypted/chat/completions", &other).await;
    assert_eq!((status, &said["error"]["code"]), (400, &json!("payload_mismatch")));
    other["session_id"] = json!("e-2");
    let (status, said) = group.asks(host, "encrypted/chat/completions", &other).await;
    assert_eq!(
        (status, &said["error"]["message"]),
        (400, &json!("the request is not understood: session_id: another session's"))
    );
    assert_eq!(read(&mempool(host).await), [(Said::Confirm, 1), (Said::Finish, 1)].into());
}

/// S01: a session that holds the end of an inference is proof that its model has run: it is not asked again where the
/// answer is lost, as after a database was put back to an older state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_what_has_ended_is_not_begun_again() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create("lost").unwrap();
    let mut group = Group::new(1);
    let host = group.addresses[0];
    let shared = [("DEVSHARD_STORAGE_MODE", "shared".to_owned()), ("DEVSHARD_DATABASE_URL", url)];
    let _host = group.start(0, "host-0", host, &shared);
    let asked = group.step(&[], Some(now())).unwrap();
    let heard = group.bring(host, Some(&asked)).await;
    assert_eq!(heard.is_whole(TOKENS), Ok(()));
    group.says(&heard.owed(), &[host]).await;
    let body = json!({"diffs": [], "nonce": 1, "payload": asked.payload()}).to_string();
    let again = group.owner.sign(&format!("/sessions/{ESCROW}/chat/completions"), body);
    assert_eq!(again.send(host).await.events, heard.events);
    postgres.sql("lost", "DELETE FROM devshard_executions").unwrap();
    let lost = again.send(host).await;
    assert_eq!((lost.status, lost.end), (404, End::Typed("unknown_inference".to_owned())));
    assert_eq!(std::fs::read_to_string(group.path("journal-0")).unwrap().lines().count(), 1);
}
