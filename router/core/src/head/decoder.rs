//! A chunked body without its framing: what is left are the bytes that were meant.

use super::HeadViolation;
use super::chunked::{Chunked, Piece};
use super::grammar;

/// Takes the framing out of a chunked body, in place.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: Chunked,
    /// The trailer section as it was read, line by line; checked already.
    trailers: Vec<u8>,
}

/// What one piece of input held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// How many bytes of the input were taken. What follows the end of the body is left.
    pub used: usize,
    /// How many bytes of data stand at the front of the input now.
    pub data: usize,
    /// Whether the body has come to its end.
    pub ended: bool,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self { state: Chunked::start(), trailers: Vec::new() }
    }
}

impl ChunkDecoder {
    /// Takes some of `input` and moves the data in it to its front. An error speaks of the first byte; one
    /// further on is found by the next call, so that the data before it is not lost.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, HeadViolation> {
        let (mut used, mut data) = (0, 0);
        while used < input.len() {
            let is_trailer = matches!(self.state, Chunked::Trailer(_) | Chunked::TrailerLf(_));
            match self.state.step(&input[used..]) {
                Ok(Piece::Data(here)) => {
                    input.copy_within(used..used + here, data);
                    used += here;
                    data += here;
                }
                Ok(Piece::Framing) => {
                    if is_trailer {
                        self.trailers.push(input[used]);
                    }
                    used += 1;
                }
                Ok(Piece::End) => break,
                Err(violation) if used == 0 => return Err(violation),
                Err(_) => break,
            }
        }
        Ok(Decoded { used, data, ended: matches!(self.state, Chunked::End) })
    }

    /// The trailer fields, once the body has ended: names and values.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.trailers.split(|byte| *byte == b'\n');
        lines.filter_map(|line| grammar::field(line.strip_suffix(b"\r").unwrap_or(line)).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole body by pieces of these lengths: data, trailers and what was left.
    fn decode(body: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, Vec<String>, usize), HeadViolation> {
        let (mut decoder, mut data, mut at, mut piece) = (ChunkDecoder::default(), Vec::new(), 0, 0);
        loop {
            let length = pieces.get(piece).copied().unwrap_or(body.len()).clamp(1, (body.len() - at).max(1));
            piece += 1;
            let mut input = body[at..(at + length).min(body.len())].to_vec();
            let decoded = decoder.decode(&mut input)?;
            data.extend(&input[..decoded.data]);
            at += decoded.used;
            if decoded.ended || at == body.len() {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let trailers = decoder.trailers().map(|(name, value)| format!("{}={}", text(name), text(value)));
                return Ok((data, trailers.collect(), body.len() - at));
            }
        }
    }

    #[test]
    fn data_and_trailers_come_out_and_what_follows_is_left() {
        let body = b"3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nGrpc-Status: 0\r\nx:y\r\n\r\nHTTP/1.1";
        let (data, trailers, left) = decode(body, &[]).unwrap();
        assert_eq!((data.as_slice(), left), (&b"abc0123456789"[..], 8));
        assert_eq!(trailers, ["Grpc-Status=0", "x=y"]);
        assert_eq!(decode(b"0\r\n\r\n", &[]).unwrap(), (Vec::new(), Vec::new(), 0));
    }

    #[test]
    fn data_before_a_violation_is_not_lost() {
        let mut decoder = ChunkDecoder::default();
        let mut input = b"3\r\nabcX".to_vec();
        assert_eq!(decoder.decode(&mut input), Ok(Decoded { used: 6, data: 3, ended: false }));
        assert_eq!(&input[..3], b"abc");
        assert_eq!(decoder.decode(&mut b"X".to_vec()), Err(HeadViolation::ChunkEnd));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            pieces in proptest::collection::vec(1usize..30, 0..60),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:X}\r\n", chunk.len()).as_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\nA: b\r\n\r\nrest");
            prop_assert_eq!(decode(&body, &pieces).unwrap(), (chunks.concat(), vec!["A=b".to_owned()], 4));
        }
    }
}
