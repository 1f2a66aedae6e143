use serde_json::json;

use super::*;
use crate::wire::{Confirm, Kind};
use prost::Message as _;

fn key(number: u8) -> Key {
    Key::from_hex(&format!("{number:064x}")).unwrap()
}

#[test]
fn questions_are_read() {
    let payload = json!({"prompt": "aGk=", "model": "m", "max_tokens": 5});
    let body = json!({"inference_id": 7, "reason": "refused", "payload": payload, "diffs": [{"nonce": 1}]});
    let question = TimeoutQuestion::read(body.to_string().as_bytes()).unwrap();
    assert_eq!((question.inference, question.reason, question.diffs.len()), (InferenceId(7), Reason::Refused, 1));
    assert_eq!(question.payload.unwrap().prompt, b"hi");
    let challenge = Challenge::read(br#"{"inference_id":7}"#).unwrap();
    assert_eq!(challenge, Challenge { inference: InferenceId(7), payload: None, diffs: vec![] });
    let body = json!({"nonce": 3, "state_hash": STANDARD.encode([1; 32]), "state_sig": STANDARD.encode([2; 65]), "slot_id": 4});
    let signed = Signed::read(body.to_string().as_bytes()).unwrap();
    assert_eq!((signed.nonce, signed.root, signed.slot), (Nonce(3), [1; 32], Slot(4)));
    let tx = Tx::of(Kind::Confirm(Confirm { inference_id: 1, executor_sig: vec![1], confirmed_at: 9 }));
    let body = json!({"txs": [STANDARD.encode(tx.encode_to_vec())]});
    assert_eq!(read_txs(body.to_string().as_bytes()).unwrap(), [tx]);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let said = |error: RequestError| error.to_string();
    let timeout = |body: &str| said(TimeoutQuestion::read(body.as_bytes()).unwrap_err());
    assert_eq!(timeout("{}"), "reason: missing");
    assert_eq!(timeout(r#"{"reason":"late"}"#), "reason: refused and execution are known: `late`");
    assert_eq!(timeout(r#"{"reason":"refused"}"#), "inference_id: missing");
    let unread = json!({"reason": "refused", "inference_id": 1, "diffs": [{"nonce": 1, "txs": "*"}]}).to_string();
    assert_eq!(timeout(&unread), "diffs[0].txs: not base64");
    assert_eq!(said(Challenge::read(br#"{"inference_id":1,"payload":{}}"#).unwrap_err()), "payload.prompt: missing");
    let signed = |body: serde_json::Value| said(Signed::read(body.to_string().as_bytes()).unwrap_err());
    assert_eq!(signed(json!({"state_hash": "YQ=="})), "state_hash: a state has 32 bytes");
    let root = STANDARD.encode([1; 32]);
    assert_eq!(signed(json!({"state_hash": root})), "state_sig: a signature has 65 bytes");
    let both = json!({"state_hash": root, "state_sig": STANDARD.encode([2; 65])});
    assert_eq!(signed(both), "nonce: missing");
    let txs = |body: serde_json::Value| said(read_txs(body.to_string().as_bytes()).unwrap_err());
    assert_eq!(txs(json!({"txs": ["", "*"]})), "txs[1]: not base64");
    assert_eq!(txs(json!({"txs": ["CgII"]})), "txs[0]: not a protobuf message of its kind");
    assert_eq!(txs(json!({"txs": vec![""; TXS + 1]})), "txs: 4097 of them, and 4096 may be");
}

/// The words that are signed are those of the chain's accounts: with the epoch and the time in digits.
#[test]
fn a_member_asks_for_what_was_said() {
    let (validator, now) = (key(3).address().unwrap(), 1_700_000_000_000_000_000);
    let request = PayloadRequest { inference: "7", validator: validator.as_str(), at_ns: now, epoch: 12 };
    assert_eq!(request.words(), format!("7121700000000000000000{validator}"));
    let signature = request.sign(&key(3));
    assert_eq!(request.check(Some(&signature), now), Ok(validator.clone()));
    assert_eq!(request.check(Some(&signature), now + OLD_NS + 1), Err(PayloadRequestError::Time));
    assert_eq!(request.check(Some(&signature), now - AHEAD_NS - 1), Err(PayloadRequestError::Time));
    assert_eq!(request.check(None, now), Err(PayloadRequestError::Header("authorization")));
    let others = request.sign(&key(4));
    assert_eq!(request.check(Some(&others), now), Err(PayloadRequestError::Signature));
    let other = PayloadRequest { epoch: 13, ..request.clone() };
    assert_eq!(other.check(Some(&signature), now), Err(PayloadRequestError::Signature));
    let read = |at, epoch| PayloadRequest::read("7", Some(validator.as_str()), at, epoch);
    assert_eq!(read(Some("1700000000000000000"), Some("12")), Ok(request));
    assert_eq!(read(Some("now"), Some("12")), Err(PayloadRequestError::Header(AT)));
    assert_eq!(read(Some("1"), None), Err(PayloadRequestError::Header(EPOCH)));
    assert_eq!(PayloadRequest::read("7", None, None, None), Err(PayloadRequestError::Header(VALIDATOR)));
}

#[test]
fn an_executor_answers_with_its_name() {
    let executor = key(3).address().unwrap();
    let signature = sign_payloads(&key(3), &executor, "7", b"{}", b"data: a\n\n");
    assert!(are_signed_payloads(&executor, "7", b"{}", b"data: a\n\n", &signature));
    assert!(!are_signed_payloads(&executor, "8", b"{}", b"data: a\n\n", &signature));
    assert!(!are_signed_payloads(&executor, "7", b"{ }", b"data: a\n\n", &signature));
    assert!(!are_signed_payloads(&key(4).address().unwrap(), "7", b"{}", b"data: a\n\n", &signature));
}
