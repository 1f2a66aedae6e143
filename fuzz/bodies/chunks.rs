//! A chunked body of whoever sends it: however it is split, the same data comes out, and it ends where the
//! scanner of requests lets it end. The first byte says how it is split.

use router_core::head::{ChunkDecoder, HeadScanner, Step};

/// The data, how many bytes the body took if it came to its end, and whether it was refused.
fn decode(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, Option<usize>, bool) {
    let (mut decoder, mut data, mut taken) = (ChunkDecoder::default(), Vec::new(), 0);
    for mut piece in pieces {
        let mut from = 0;
        while from < piece.len() {
            let before = piece.len() - from;
            let Ok(decoded) = decoder.decode(&mut piece[from..]) else { return (data, None, true) };
            assert!(decoded.used > 0 && decoded.used <= before, "it neither takes nor decides");
            assert!(decoded.data <= decoded.used, "more came out than went in");
            data.extend_from_slice(&piece[from..from + decoded.data]);
            taken += decoded.used;
            if decoded.ended {
                assert!(decoder.trailers().all(|(name, _)| !name.is_empty()));
                return (data, Some(taken), false);
            }
            from += decoded.used;
        }
    }
    (data, None, false)
}

/// Where a request with this body ends, and whether it was refused.
fn scan(body: &[u8]) -> (Option<usize>, bool) {
    let mut scanner = HeadScanner::new();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(scanner.feed(head).used, head.len());
    let mut taken = 0;
    while taken < body.len() {
        let fed = scanner.feed(&body[taken..]);
        match fed.step {
            Step::Body => taken += fed.used,
            Step::Violation(_) => return (None, true),
            Step::Head(_) | Step::NeedMore | Step::Waiting => break,
        }
        if !scanner.is_mid_body() {
            return (Some(taken), false);
        }
    }
    (None, false)
}

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let Some((size, body)) = data.split_first() else { return };
    let whole = decode(std::iter::once(body.to_vec()));
    let split = decode(body.chunks(usize::from(*size).max(1)).map(<[u8]>::to_vec));
    assert_eq!(whole, split, "what comes out depends on how the bytes are split");
    assert_eq!((whole.1, whole.2), scan(body), "the two readers of a chunked body disagree");
}
