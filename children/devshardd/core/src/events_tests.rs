use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::sse::Parser;

#[test]
fn an_event_carries_its_cursor() {
    let mut out = Vec::new();
    write_event(&mut out, Cursor { inference: InferenceId(7), n: 3 }, b"a\nb");
    assert_eq!(String::from_utf8(out).unwrap(), "id: 7:3\ndata: a\ndata: b\n\n");
    assert_eq!("7:3".parse(), Ok(Cursor { inference: InferenceId(7), n: 3 }));
    for text in ["", "7", ":3", "7:", "7:-1", "7:3:1", "7:4294967296", "07:3", "7:03", "7:+3", "-7:3"] {
        assert_eq!(text.parse::<Cursor>(), Err(EventError::Cursor), "{text:?}");
    }
}

#[test]
fn an_early_end_says_why_and_leaves_the_cursor() {
    let mut out = Vec::new();
    write_end(&mut out, EndCode::OutcomeUncertain, "its host is gone");
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("event: error\ndata: {\"error\":{\"code\":\"outcome_uncertain\""), "{text}");
    assert!(!text.contains("id:") && text.ends_with("\n\n"), "{text}");
    let mut out = Vec::new();
    write_end(&mut out, EndCode::StillRunning, "a\nevent: \"b\"");
    let said = Parser::default().push(&out).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said[0]).unwrap();
    let expected = json!({"error": {"code": "still_running", "message": "a\nevent: \"b\"", "retry": true}});
    assert_eq!(said, expected);
}

#[test]
fn a_payload_writes_no_fields_of_its_own() {
    for (payload, expected) in [
        (&b""[..], "data: \n\n"),
        (b"a\r\nb\rc\nd", "data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (b"a\r\rid: 9:9\revent: error", "data: a\ndata: \ndata: id: 9:9\ndata: event: error\n\n"),
        (b"a\n", "data: a\ndata: \n\n"),
    ] {
        let mut out = b"before".to_vec();
        write_event(&mut out, Cursor { inference: InferenceId(7), n: 0 }, payload);
        assert_eq!(String::from_utf8(out).unwrap(), format!("beforeid: 7:0\n{expected}"));
    }
}

/// What an event costs is what it writes: a stream has thousands.
#[test]
fn a_writer_grows_nothing_but_its_output() {
    let mut out = Vec::with_capacity(256);
    let before = out.as_ptr();
    write_event(&mut out, Cursor { inference: InferenceId(7), n: 0 }, b"a\nb");
    write_end(&mut out, EndCode::StillRunning, "gone");
    assert_eq!((out.as_ptr(), out.capacity()), (before, 256));
}

#[test]
fn the_first_and_the_last_event_are_the_hosts() {
    let receipt = Receipt {
        state_sig: "YQ==".to_owned(),
        state_hash: "Yg==".to_owned(),
        nonce: Nonce(7),
        executor: Some(Executor { receipt: "Yw==".to_owned(), confirmed_at: 9 }),
    };
    let expected =
        r#"{"devshard_receipt":{"state_sig":"YQ==","state_hash":"Yg==","nonce":7,"receipt":"Yw==","confirmed_at":9}}"#;
    assert_eq!(String::from_utf8(receipt.payload()).unwrap(), expected);
    let others = Receipt { executor: None, ..receipt };
    let expected = r#"{"devshard_receipt":{"state_sig":"YQ==","state_hash":"Yg==","nonce":7}}"#;
    assert_eq!(String::from_utf8(others.payload()).unwrap(), expected);
    assert_eq!(meta(&["YQ==".to_owned()]), br#"{"devshard_meta":{"mempool":["YQ=="]}}"#);
    assert_eq!(meta(&[]), br#"{"devshard_meta":{"mempool":[]}}"#);
}

#[test]
fn every_end_has_a_code_of_its_own() {
    let codes: std::collections::BTreeSet<_> = EndCode::ALL.into_iter().map(EndCode::code).collect();
    assert_eq!(codes.len(), EndCode::ALL.len());
    assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
}

#[test]
fn a_replay_goes_on_behind_what_the_client_has() {
    let mut record = Record::default();
    assert!(["a", "b", "c"].iter().all(|payload| record.push(payload.as_bytes())));
    let from = |n| {
        let mut out = Vec::new();
        let next = record.write_from(&mut out, InferenceId(7), n);
        (String::from_utf8(out).unwrap(), next)
    };
    let rest = "id: 7:1\ndata: b\n\nid: 7:2\ndata: c\n\n";
    assert_eq!(from(0), (format!("id: 7:0\ndata: a\n\n{rest}"), 3));
    assert_eq!(from(1), (rest.to_owned(), 3));
    assert_eq!((from(3), from(9)), ((String::new(), 3), (String::new(), 9)));
}

/// What a model says is told apart from what the host says around it, and what it has used is counted.
#[test]
fn what_the_model_said_is_committed_to() {
    let of = |payloads: &[&str]| {
        let mut record = Record::default();
        assert!(payloads.iter().all(|payload| record.push(payload.as_bytes())));
        record
    };
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    let whole = of(&["receipt", "a\nb", usage, "[DONE]", "meta"]);
    let body = format!("data: a\ndata: b\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    assert_eq!(String::from_utf8(whole.body()).unwrap(), body);
    assert_eq!(of(&["receipt", "a\nb", usage, "[DONE]"]).body(), whole.body(), "the meta event adds nothing");
    assert_eq!(whole.tokens(3), (9, 4));
    let null = r#"{"usage":null}"#;
    assert_eq!(of(&["receipt", usage, null, "[DONE]"]).tokens(3), (9, 4), "the last that counts");
    assert_eq!(of(&["receipt", "a", null, "b", "[DONE]"]).tokens(3), (3, 3), "one that does not count");
    assert_eq!(of(&["receipt", "[DONE]"]).tokens(3), (3, 0));
}

#[test]
fn an_answer_is_read_in_words() {
    let delta = |text: &str| json!({"choices": [{"delta": {"content": text}}]}).to_string();
    let body = |payloads: &[String]| payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect::<String>();
    let done = "[DONE]".to_owned();
    let usage = json!({"choices": [], "usage": {}}).to_string();
    let stream = body(&[delta("a "), json!({"choices": [{"delta": {}}]}).to_string(), delta("b"), usage, done.clone()]);
    assert_eq!(answer_text(stream.as_bytes()).as_deref(), Some("a b"));
    let whole = body(&[json!({"choices": [{"message": {"content": "a b"}}]}).to_string(), done.clone()]);
    assert_eq!(answer_text(whole.as_bytes()).as_deref(), Some("a b"));
    for broken in [body(&[delta("a")]), body(&["a".to_owned(), done.clone()]), body(&["{}".to_owned(), done])] {
        assert_eq!(answer_text(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn a_record_that_is_cut_is_told() {
    let mut record = Record::default();
    assert!(record.push(b"one") && record.push(b"two"));
    for cut in 2..record.bytes().len() {
        let read = Record::read(record.bytes()[..cut].to_vec());
        // Between two events nothing tells; the row says whether it is whole.
        let is_between = cut == 1 + 4 + 3;
        assert_eq!(read.is_err(), !is_between, "cut at {cut}");
    }
    assert_eq!(Record::read(vec![9]), Err(EventError::Format(9)));
}

proptest! {
    #[test]
    fn what_is_stored_is_what_was_said(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut record = Record::default();
        for payload in &payloads {
            prop_assert!(record.push(payload));
        }
        let read = Record::read(record.bytes().to_vec()).unwrap();
        prop_assert_eq!(&read, &record);
        let again: Vec<Vec<u8>> = (0..).map_while(|n| read.get(n).map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(&again, &payloads);
        prop_assert_eq!(read.hash(), record.hash());
    }

    /// A stream that is cut anywhere and resumed by its last whole event is the stream that was not cut.
    #[test]
    fn s02_a_stream_that_is_resumed_lacks_nothing(
        payloads in prop::collection::vec("[a-z\n]{0,9}", 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let inference = InferenceId(7);
        let mut record = Record::default();
        prop_assert!(payloads.iter().all(|payload| record.push(payload.as_bytes())));
        let mut whole = Vec::new();
        record.write_from(&mut whole, inference, 0);
        let heard = &whole[..cut.index(whole.len() + 1)];
        // What a client has of whole events, and the id of the last.
        let end = heard.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
        let mut heard = heard[..end].to_vec();
        let text = String::from_utf8(heard.clone()).unwrap();
        let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
        let from = last.map_or(0, |id| id.parse::<Cursor>().unwrap().n + 1);
        record.write_from(&mut heard, inference, from);
        prop_assert_eq!(heard, whole);
    }

    #[test]
    fn what_is_written_is_read_the_same(payload in "[a-z\r\n:{} ]{0,60}") {
        let mut out = Vec::new();
        write_event(&mut out, Cursor { inference: InferenceId(1), n: 0 }, payload.as_bytes());
        let events = Parser::default().push(&out).unwrap();
        // Of a line break, that it is one is kept, and not which.
        let expected = payload.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(events, vec![expected.into_bytes()]);
    }
}
