use super::*;
use crate::head::HeadViolation as V;
use proptest::prelude::*;

/// What a whole connection looks like to the scanner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Verdict {
    heads: Vec<(Head, Vec<u8>)>,
    body: Vec<u8>,
    violation: Option<HeadViolation>,
    waiting: bool,
}

fn scan<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Verdict {
    let mut scanner = HeadScanner::new();
    let mut verdict = Verdict::default();
    for mut piece in pieces {
        while !piece.is_empty() {
            let Fed { used, step } = scanner.feed(piece);
            match step {
                Step::NeedMore => {}
                Step::Head(head) => verdict.heads.push((head, scanner.take_head())),
                Step::Body => verdict.body.extend(&piece[..used]),
                Step::Waiting => {
                    verdict.waiting = true;
                    return verdict;
                }
                Step::Violation(violation) => {
                    verdict.violation = Some(violation);
                    return verdict;
                }
            }
            piece = &piece[used..];
        }
    }
    verdict
}

const HOST: &str = "Host: a\r\n";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{HOST}\r\n")
}

fn with(headers: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{headers}\r\n")
}

fn chunks(body: &str) -> String {
    format!("{}{body}", with("Transfer-Encoding: chunked\r\n"))
}

/// The table of F54. Each line is a whole connection.
fn refused() -> Vec<(String, V)> {
    let head = |text: &str| text.to_owned();
    vec![
        // Two framings.
        (with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), V::LengthAndEncoding),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), V::LengthAndEncoding),
        (with("Content-Length: 3\r\nContent-Length: 3\r\n"), V::LengthRepeated),
        (with("Content-Length: 3\r\nContent-Length: 4\r\n"), V::LengthRepeated),
        (with("Content-Length: 3, 3\r\n"), V::LengthMalformed),
        (with("Content-Length: +3\r\n"), V::LengthMalformed),
        (with("Content-Length: -1\r\n"), V::LengthMalformed),
        (with("Content-Length: 0x3\r\n"), V::LengthMalformed),
        (with("Content-Length: 3 \t4\r\n"), V::LengthMalformed),
        (with("Content-Length:\r\n"), V::LengthMalformed),
        (with("Content-Length: 9999999999999999999\r\n"), V::LengthMalformed),
        (with("Content_Length: 3\r\n"), V::FramingLookalike),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), V::EncodingRepeated),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), V::EncodingRepeated),
        (with("Transfer-Encoding: gzip, chunked\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: chunked, identity\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: xchunked\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: Chunked\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: \"chunked\"\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: chunked;q=1\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding:\r\n"), V::EncodingMalformed),
        (with("Transfer-Encoding: chunked\x0b\r\n"), V::Control),
        (with("Transfer-Encoding : chunked\r\n"), V::SpaceBeforeColon),
        (with("Transfer-Encoding\t: chunked\r\n"), V::SpaceBeforeColon),
        (with("Transfer-Encoding:\r\n chunked\r\n"), V::ObsFold),
        (with("Transfer_Encoding: chunked\r\n"), V::FramingLookalike),
        (head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), V::EncodingInHttp10),
        // Lines.
        (head("GET / HTTP/1.1\nHost: a\n\n"), V::BareLf),
        (head("GET / HTTP/1.1\r\nHost: a\n\r\n"), V::BareLf),
        (head("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), V::BareCr),
        (head("GET / HTTP/1.1\r\nHost: a\r\n\rX"), V::BareCr),
        (head("\nGET / HTTP/1.1\r\n"), V::BareLf),
        (head("\r\n\r\nGET / HTTP/1.1\r\n"), V::RequestLine),
        (with("X: a\0b\r\n"), V::Control),
        (with("X: a\x7fb\r\n"), V::Control),
        (with("X: a\x01b\r\n"), V::Control),
        (with("X: a\r\n b\r\n"), V::ObsFold),
        (with("X: a\r\n\tb\r\n"), V::ObsFold),
        (with("X : a\r\n"), V::SpaceBeforeColon),
        (with("X y: a\r\n"), V::HeaderName),
        (with(": a\r\n"), V::HeaderName),
        (with("X\r\n"), V::HeaderName),
        (with("X(: a\r\n"), V::HeaderName),
        (with("X\u{e9}: a\r\n"), V::HeaderName),
        (head("\x16\x03\x01\x02"), V::Control),
        // Host.
        (head("GET / HTTP/1.1\r\n\r\n"), V::HostMissing),
        (head("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), V::HostRepeated),
        (head("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"), V::HostRepeated),
        (head("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), V::HostMalformed),
        (head("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), V::HostMalformed),
        (head("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), V::HostMalformed),
        (head("GET / HTTP/1.1\r\nHost:\r\n\r\n"), V::HostMalformed),
        // Request line.
        (head("GET /\r\n\r\n"), V::RequestLine),
        (head("GET  / HTTP/1.1\r\n\r\n"), V::RequestLine),
        (head("GET / HTTP/1.1 \r\n\r\n"), V::RequestLine),
        (head(" GET / HTTP/1.1\r\n\r\n"), V::RequestLine),
        (head("GET\t/ HTTP/1.1\r\n\r\n"), V::RequestLine),
        (head("G(T / HTTP/1.1\r\n\r\n"), V::Method),
        (head("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), V::UnsupportedVersion),
        (head("PRI * HTTP/2.0\r\n\r\n"), V::UnsupportedVersion),
        (head("GET / http/1.1\r\nHost: a\r\n\r\n"), V::Version),
        (head("GET / HTTP/11\r\nHost: a\r\n\r\n"), V::Version),
        (head("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), V::Connect),
        // Target.
        (get("http://b/"), V::AbsoluteForm),
        (get("http://a/"), V::AbsoluteForm),
        (get("*"), V::AsteriskForm),
        (get("a"), V::NotOriginForm),
        (get("?q"), V::NotOriginForm),
        (get("a:1"), V::NotOriginForm),
        (get("/a#b"), V::Fragment),
        (get("/a%2fb"), V::EncodedSlash),
        (get("/a%2Fb"), V::EncodedSlash),
        (get("/a%5cb"), V::EncodedSlash),
        (get("/a\\b"), V::TargetCharacter),
        (get("/a<b"), V::TargetCharacter),
        (get("/\u{e9}"), V::TargetCharacter),
        (get("/a%00"), V::EncodedControl),
        (get("/a%0d%0aX:b"), V::EncodedControl),
        (get("/a%"), V::Escape),
        (get("/a%2"), V::Escape),
        (get("/a%zz"), V::Escape),
        (get("/."), V::DotSegment),
        (get("/a/./b"), V::DotSegment),
        (get("/a/../b"), V::DotSegment),
        (get("/a/%2e%2E/b"), V::DotSegment),
        (get("/a/.%2e"), V::DotSegment),
        (get("/a/..;x/b"), V::DotSegment),
        (get("/a/..%3bx/b"), V::DotSegment),
        // Chunks.
        (chunks("x\r\n"), V::ChunkSize),
        (chunks("\r\n"), V::ChunkSize),
        (chunks("0x1\r\n"), V::ChunkSize),
        (chunks("-1\r\n"), V::ChunkSize),
        (chunks("1 \r\n"), V::ChunkSize),
        (chunks(" 1\r\n"), V::ChunkSize),
        (chunks("1\n"), V::ChunkSize),
        (chunks("1234567890abcdef\r\n"), V::ChunkSize),
        (chunks("1\ra"), V::BareCr),
        (chunks("1;a\nb"), V::ChunkExtension),
        (chunks("1;a\rb"), V::BareCr),
        (chunks("1;a\0"), V::ChunkExtension),
        (chunks(&format!("1;{}\r\n", "a".repeat(257))), V::ChunkExtension),
        (chunks("1\r\nab"), V::ChunkEnd),
        (chunks("1\r\na\n"), V::ChunkEnd),
        (chunks("1\r\na\rb"), V::ChunkEnd),
        (chunks("0\r\nX\r\n\r\n"), V::HeaderName),
        (chunks("0\r\nX: a\n\r\n"), V::BareLf),
        (chunks("0\r\nX: a\r\n b\r\n"), V::ObsFold),
        (chunks("0\r\nContent-Length: 5\r\n\r\n"), V::TrailerForbidden),
        (chunks(&format!("0\r\nX: {}\r\n\r\n", "a".repeat(9_000))), V::TrailersTooLarge),
        // Size.
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD)), V::HeadTooLarge),
        (with(&"X: a\r\n".repeat(100)), V::TooManyFields),
        // The second request of a connection is read as strictly as the first.
        (format!("{}GET / HTTP/1.1\n", get("/")), V::BareLf),
        (format!("{}abcGET /../ HTTP/1.1\r\nHost: a\r\n\r\n", with("Content-Length: 3\r\n")), V::DotSegment),
        (chunks("1\r\na\r\n0\r\n\r\nGET /%2f HTTP/1.1\r\nHost: a\r\n\r\n"), V::EncodedSlash),
    ]
}

#[test]
fn f54_what_is_ambiguous_is_refused_by_name() {
    for (text, violation) in refused() {
        assert_eq!(scan([text.as_bytes()]).violation, Some(violation), "{:?}", &text[..text.len().min(200)]);
    }
}

#[test]
fn what_is_clear_is_passed_on() {
    let check = |text: &str, framing: Framing| {
        let verdict = scan([text.as_bytes()]);
        assert_eq!(verdict.violation, None, "{text:?}");
        assert_eq!(verdict.heads.len(), 1, "{text:?}");
        assert_eq!(verdict.heads[0].0.framing, framing, "{text:?}");
        verdict
    };
    for target in ["/", "/a/b.c/...", "/a//b", "/a/", "/a%20b", "/a?x=/../%2f&y=[{}]", "/~x/@;a=b", "/a/.b/..c"] {
        check(&get(target), Framing::None);
    }
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None);
    check("GET / HTTP/1.0\r\n\r\n", Framing::None);
    check("\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Framing::None);
    check(&with(&"X: a\r\n".repeat(99)), Framing::None);
    check(&with("X:\r\nY: \u{fc} \t\r\n"), Framing::None);
    check(&with("Content-Length: 0\r\n"), Framing::None);
    let body = check(&format!("{}abc", with("content-length: 3\t\r\n")), Framing::Length(3)).body;
    assert_eq!(body, b"abc");
    let text = "3;ext=\"a b\"\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX: a\r\nY: b\r\n\r\n";
    assert_eq!(check(&chunks(text), Framing::Chunked).body, text.as_bytes());
}

#[test]
fn a_head_says_what_it_means_for_its_connection() {
    let head = |text: &str| scan([text.as_bytes()]).heads[0].0;
    assert!(head(&with("Connection: keep-alive, Close\r\n")).close);
    assert!(head("GET / HTTP/1.0\r\n\r\n").close);
    assert!(!head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").close);
    assert!(head(&with("Expect: 100-Continue\r\n")).expect_continue);
    assert!(head(&with("Connection: Upgrade\r\nUpgrade: websocket\r\n")).upgrade);
    assert!(!head(&with("Upgrade: websocket\r\n")).upgrade);
    assert!(!head(&with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")).upgrade);
}

#[test]
fn after_an_upgrade_request_the_scanner_waits_for_the_answer() {
    let request = with("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n");
    let verdict = scan([format!("{request}ab\0\0\0").as_bytes()]);
    assert!(verdict.waiting && verdict.violation.is_none());
    assert_eq!(verdict.body, b"ab");

    let mut scanner = HeadScanner::new();
    let request = with("Connection: Upgrade\r\nUpgrade: websocket\r\n");
    assert!(matches!(scanner.feed(request.as_bytes()).step, Step::Head(_)));
    assert_eq!(scanner.feed(b"GET"), Fed { used: 0, step: Step::Waiting });
    scanner.resume();
    assert!(matches!(scanner.feed(get("/").as_bytes()).step, Step::NeedMore | Step::Head(_)));
}

#[test]
fn a_free_run_is_the_body_that_needs_no_look() {
    let mut scanner = HeadScanner::new();
    assert_eq!(scanner.free_run(), 0);
    scanner.feed(with("Content-Length: 5\r\n").as_bytes());
    assert_eq!(scanner.free_run(), 5);
    scanner.skip(5);
    assert!(scanner.is_at_head());
    let chunked = with("Transfer-Encoding: chunked\r\n");
    scanner.take_head();
    assert_eq!(scanner.feed(chunked.as_bytes()).used, chunked.len());
    scanner.feed(b"5\r\n");
    assert_eq!(scanner.free_run(), 5);
    scanner.skip(5);
    assert_eq!(scanner.feed(b"\r\n0\r\n\r\n"), Fed { used: 7, step: Step::Body });
    assert!(scanner.is_at_head());
}

fn connection() -> impl Strategy<Value = Vec<u8>> {
    let corpus: Vec<String> = refused()
        .into_iter()
        .map(|(text, _)| text)
        .filter(|text| text.len() < 20_000)
        .chain([
            get("/a?b"),
            format!("{}abc{}", with("Content-Length: 3\r\n"), get("/")),
            chunks("3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
            with("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ])
        .collect();
    let piece = prop_oneof![
        6 => proptest::sample::select(corpus).prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => proptest::collection::vec(proptest::sample::select(b"\r\n :0aG/;".to_vec()), 0..12),
    ];
    proptest::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn f54_the_verdict_does_not_depend_on_how_the_bytes_are_split(
        bytes in connection(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
        every_byte in any::<bool>(),
    ) {
        let whole = scan([bytes.as_slice()]);
        let split = if every_byte {
            scan(bytes.chunks(1))
        } else {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            scan(at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]))
        };
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn a_head_that_passes_is_whole_and_clean(bytes in connection()) {
        for (head, text) in scan([bytes.as_slice()]).heads {
            prop_assert_eq!(head.len, text.len());
            prop_assert!(text.ends_with(b"\r\n\r\n"));
            prop_assert!(!text.contains(&0));
            prop_assert_eq!(text.windows(4).filter(|w| w == b"\r\n\r\n").count(), 1);
        }
    }
}
