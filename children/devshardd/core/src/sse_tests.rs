use proptest::prelude::*;

use super::*;

fn parsed(pieces: &[&[u8]]) -> Vec<String> {
    let mut parser = Parser::default();
    let events = pieces.iter().flat_map(|piece| parser.push(piece).unwrap());
    events.map(|event| String::from_utf8(event).unwrap()).collect()
}

/// What a model has said, whether it was whole, and whether reading it went wrong.
fn said(pieces: &[&[u8]], limit: usize) -> (Vec<String>, bool, Option<&'static str>) {
    let (mut stream, mut payloads, mut wrong) = (ModelStream::with_limit(limit), Vec::new(), None);
    for piece in pieces {
        if let Err(error) = stream.push(piece, &mut payloads) {
            wrong = Some(error.code());
            break;
        }
    }
    let payloads = payloads.into_iter().map(|payload| String::from_utf8(payload).unwrap());
    (payloads.collect(), stream.finish().is_ok(), wrong)
}

#[test]
fn an_event_is_its_data() {
    for (text, expected) in [
        ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
        ("data:a\r\n\r\ndata: b\r\r", vec!["a", "b"]),
        (": comment\n\nevent: x\nid: 7\ndata: a\ndata: b\n\n", vec!["a\nb"]),
        ("data\n\n", vec![""]),
        ("data:\ndata:\n\n", vec!["\n"]),
        ("data:  a\n\n", vec![" a"]),
        ("data: a\r\ndata: b\r\n\r\n", vec!["a\nb"]),
        ("data: a\rdata: b\r\r", vec!["a\nb"]),
        ("data: {\"a\": \"b:c\"}\n\n", vec!["{\"a\": \"b:c\"}"]),
        ("\u{feff}data: a\n\n\u{feff}data: b\n\n", vec!["a"]),
        ("event: only\n\n", vec![]),
        ("database: a\n\n", vec![]),
        ("data: not ended\n", vec![]),
    ] {
        assert_eq!(parsed(&[text.as_bytes()]), expected, "{text:?}");
    }
}

#[test]
fn an_event_is_bounded() {
    let mut parser = Parser::default();
    assert!(parser.push(b"data: ").unwrap().is_empty());
    assert!(matches!(parser.push(&vec![b'x'; EVENT_BYTES]), Err(SseError::TooLarge { limit: EVENT_BYTES })));
    // What was too large does not become small by its end.
    assert!(matches!(parser.push(b"\n\ndata: a\n\n"), Err(SseError::TooLarge { .. })));
    let mut lines = Parser::default();
    let endless = std::iter::repeat_n(&b"data: xxxxxxx\n"[..], EVENT_BYTES / 7);
    assert!(endless.map(|line| lines.push(line)).any(|pushed| matches!(pushed, Err(SseError::TooLarge { .. }))));
}

#[test]
fn whether_one_is_begun_is_known() {
    let mut parser = Parser::default();
    for (text, is_between) in [("", true), ("d", false), ("ata: a\n", false), ("\n", true), (": a\n", true)] {
        parser.push(text.as_bytes()).unwrap();
        assert_eq!(parser.is_between(), is_between, "after {text:?}");
    }
}

#[test]
fn an_answer_is_whole_with_its_last_event() {
    for (text, payloads, is_whole, wrong) in [
        ("data: a\n\ndata: [DONE]\n\n", vec!["a", "[DONE]"], true, None),
        ("data: a\n\ndata:[DONE] \r\n\r\ndata: b\n\n", vec!["a", "[DONE]"], true, None),
        ("data: a\n\n", vec!["a"], false, None),
        ("data: a\n\ndata: [DONE]\n", vec!["a"], false, None),
        ("data: a\n\ndata: [DONE\n\n", vec!["a", "[DONE"], false, None),
        ("", vec![], false, None),
        // What comes before a violation is heard, what comes behind the end does not matter.
        ("data: a\n\ndata: 0123456789abcdefg\n\n", vec!["a"], false, Some("event_too_large")),
        ("data: [DONE]\n\ndata: 0123456789abcdefg\n\n", vec!["[DONE]"], true, None),
    ] {
        let payloads: Vec<_> = payloads.into_iter().map(str::to_owned).collect();
        assert_eq!(said(&[text.as_bytes()], 20), (payloads, is_whole, wrong), "{text:?}");
    }
}

#[test]
fn an_answer_without_a_stream_is_one_payload() {
    assert_eq!(from_whole(b" {\"a\": [1]}\r\n").unwrap(), [b"{\"a\": [1]}".to_vec(), b"[DONE]".to_vec()]);
    for body in [&b""[..], b"{\"a\": [1", b"{} {}", b"data: {}\n\n", b"<html>"] {
        assert_eq!(from_whole(body).unwrap_err().code(), "answer_not_json", "{}", String::from_utf8_lossy(body));
    }
}

/// Any lines, real events among them.
fn stream() -> impl Strategy<Value = String> {
    "(data: ?[a-z]{0,9}(\n|\r\n|\r)|data: \\[DONE\\](\n\n|\r\n\r\n|\r\r)|data|id|:|\r|\n|\r\n| |x|\u{feff}){0,60}"
}

proptest! {
    #[test]
    fn where_bytes_are_split_does_not_matter(text in stream(), cuts in prop::collection::vec(1_usize..12, 0..40)) {
        let bytes = text.as_bytes();
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(parsed(&pieces), parsed(&[bytes]));
        prop_assert_eq!(parsed(&single), parsed(&[bytes]));
        for limit in [EVENT_BYTES, 12] {
            prop_assert_eq!(said(&pieces, limit), said(&[bytes], limit));
            prop_assert_eq!(said(&single, limit), said(&[bytes], limit));
        }
    }
}
