//! A piece of a body, and the buffers that such pieces lie in.
//!
//! A thread keeps a few buffers. Whoever is about to read borrows one and gives it back when nothing came, so
//! that an idle stream holds none; a piece gives its buffer back when it has been written.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::{Buf, Bytes};

/// What a buffer holds, in bytes.
pub(crate) const SMALL: usize = 16 * 1024;
/// What one holds for a body that fills the small ones.
pub(crate) const LARGE: usize = 128 * 1024;
/// How much of each kind a thread keeps, in bytes.
const KEPT: usize = 1024 * 1024;

thread_local! {
    static FREE: RefCell<[Vec<Box<[u8]>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A buffer of one of the two sizes. It goes back to its thread when it is dropped.
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn small() -> Self {
        Self::of(0, SMALL)
    }

    pub(crate) fn large() -> Self {
        Self::of(1, LARGE)
    }

    fn of(kind: usize, size: usize) -> Self {
        let kept = FREE.with_borrow_mut(|free| free[kind].pop());
        Self(kept.unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        let kind = match buffer.len() {
            SMALL => 0,
            LARGE => 1,
            _ => return,
        };
        // At the end of a thread there is nothing to go back to.
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut()
                && free[kind].len() < KEPT / buffer.len()
            {
                free[kind].push(buffer);
            }
        });
    }
}

/// A piece of a body.
pub(crate) enum Chunk {
    Shared(Bytes),
    Read { buffer: Buffer, from: usize, to: usize },
}

impl Chunk {
    /// The bytes of `buffer` between two places in it.
    pub(crate) fn read(buffer: Buffer, from: usize, to: usize) -> Self {
        Chunk::Read { buffer, from, to }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Chunk::Shared(bytes) => bytes.len(),
            Chunk::Read { from, to, .. } => to - from,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Chunk::Shared(bytes) => bytes,
            Chunk::Read { buffer, from, to } => &buffer[*from..*to],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Chunk::Shared(bytes) => bytes.advance(count),
            Chunk::Read { from, to, .. } => {
                assert!(count <= *to - *from, "advanced past the end of a chunk");
                *from += count;
            }
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Chunk::Shared(bytes)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chunk").field(&self.remaining()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_piece_in_it_is_gone() {
        let mut buffer = Buffer::small();
        let at = buffer.as_ptr();
        buffer[..5].copy_from_slice(b"hello");
        let mut chunk = Chunk::read(buffer, 1, 5);
        let other = Buffer::small();
        assert_ne!(other.as_ptr(), at);
        assert_eq!((chunk.remaining(), chunk.chunk()), (4, &b"ello"[..]));
        chunk.advance(2);
        assert_eq!(chunk.chunk(), b"lo");
        drop(chunk);
        assert_eq!(Buffer::small().as_ptr(), at);
        assert_eq!((Buffer::large().len(), other.len()), (LARGE, SMALL));
    }
}
