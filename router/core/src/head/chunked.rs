//! The framing of a chunked body, byte by byte.

use super::HeadViolation as V;
use super::grammar;

const MAX_SIZE_DIGITS: u8 = 15;
const MAX_EXTENSION: u16 = 256;
const MAX_TRAILERS: usize = 8 * 1024;

/// Where in a chunked body the scanner stands.
#[derive(Debug, Clone)]
pub(super) enum Chunked {
    Size { size: u64, digits: u8 },
    Extension { size: u64, length: u16 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer(Trailers),
    TrailerLf(Trailers),
    End,
}

/// What one step has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes of data.
    Data(usize),
    /// One byte around the data.
    Framing,
    /// Nothing: the body has ended before it.
    End,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Trailers {
    line: Vec<u8>,
    total: usize,
}

impl Chunked {
    pub(super) const fn start() -> Self {
        Chunked::Size { size: 0, digits: 0 }
    }

    /// How many bytes of `input` belong to the body and may be passed on. An error speaks of the first
    /// byte of `input`; one further on is found by the next call.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, V> {
        let mut used = 0;
        while used < input.len() {
            match self.step(&input[used..]) {
                Ok(Piece::Data(here)) => used += here,
                Ok(Piece::Framing) => used += 1,
                Ok(Piece::End) => break,
                Err(violation) if used == 0 => return Err(violation),
                Err(_) => break,
            }
        }
        Ok(used)
    }

    /// Takes the next piece of `input`, which is not empty. An error leaves everything as it was.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Piece, V> {
        match self {
            Chunked::End => Ok(Piece::End),
            Chunked::Data { left } => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = Chunked::DataCr;
                }
                Ok(Piece::Data(here))
            }
            Chunked::Size { .. }
            | Chunked::Extension { .. }
            | Chunked::SizeLf { .. }
            | Chunked::DataCr
            | Chunked::DataLf
            | Chunked::Trailer(_)
            | Chunked::TrailerLf(_) => {
                *self = self.byte(input[0])?;
                Ok(Piece::Framing)
            }
        }
    }

    /// One byte that is not data. An error leaves everything as it was.
    fn byte(&mut self, byte: u8) -> Result<Self, V> {
        Ok(match self {
            Chunked::Size { size, digits } => match (byte, char::from(byte).to_digit(16)) {
                (_, Some(_)) if *digits == MAX_SIZE_DIGITS => return Err(V::ChunkSize),
                (_, Some(digit)) => Chunked::Size { size: *size << 4 | u64::from(digit), digits: *digits + 1 },
                (b';', None) if *digits > 0 => Chunked::Extension { size: *size, length: 0 },
                (b'\r', None) if *digits > 0 => Chunked::SizeLf { size: *size },
                (_, None) => return Err(V::ChunkSize),
            },
            Chunked::Extension { size, length } => match byte {
                b'\r' => Chunked::SizeLf { size: *size },
                b'\t' | b' '..=b'~' if *length < MAX_EXTENSION => {
                    Chunked::Extension { size: *size, length: *length + 1 }
                }
                _ => return Err(V::ChunkExtension),
            },
            Chunked::SizeLf { size } => match (byte, *size) {
                (b'\n', 0) => Chunked::Trailer(Trailers::default()),
                (b'\n', left) => Chunked::Data { left },
                _ => return Err(V::BareCr),
            },
            Chunked::DataCr if byte == b'\r' => Chunked::DataLf,
            Chunked::DataLf if byte == b'\n' => Chunked::Size { size: 0, digits: 0 },
            Chunked::DataCr | Chunked::DataLf | Chunked::Data { .. } | Chunked::End => return Err(V::ChunkEnd),
            Chunked::Trailer(trailers) => match byte {
                b'\r' => Chunked::TrailerLf(std::mem::take(trailers)),
                b'\n' => return Err(V::BareLf),
                b' ' | b'\t' if trailers.line.is_empty() => return Err(V::ObsFold),
                b'\t' | b' '..=b'~' | 0x80.. if trailers.total < MAX_TRAILERS => {
                    trailers.line.push(byte);
                    trailers.total += 1;
                    Chunked::Trailer(std::mem::take(trailers))
                }
                b'\t' | b' '..=b'~' | 0x80.. => return Err(V::TrailersTooLarge),
                _ => return Err(V::Control),
            },
            Chunked::TrailerLf(_) if byte != b'\n' => return Err(V::BareCr),
            Chunked::TrailerLf(trailers) if trailers.line.is_empty() => Chunked::End,
            Chunked::TrailerLf(trailers) => {
                let (name, _) = grammar::field(&trailers.line)?;
                if grammar::is_framing(name) {
                    return Err(V::TrailerForbidden);
                }
                Chunked::Trailer(Trailers { line: Vec::new(), total: trailers.total })
            }
        })
    }
}
