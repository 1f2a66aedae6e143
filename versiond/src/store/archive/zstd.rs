//! A zstd stream: frames one after the other, some of which only carry notes.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window of a frame, which is held in memory: that of `zstd --long=27`.
const WINDOW: u64 = 128 << 20;

/// The bytes of all frames.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BetweenFrames,
    InFrame,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        Self { source, decoder, place: Place::BetweenFrames }
    }

    /// Whether there is another frame.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.place = Place::InFrame;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut Read::by_ref(&mut self.source).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.place {
                Place::BetweenFrames => {
                    if !self.begin()? {
                        return Ok(0);
                    }
                }
                Place::InFrame => {
                    while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                        let block = BlockDecodingStrategy::UptoBlocks(1);
                        self.decoder.decode_blocks(&mut self.source, block).map_err(|error| invalid(&error))?;
                    }
                    let read = self.decoder.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        return Ok(read);
                    }
                    self.place = Place::BetweenFrames;
                }
            }
        }
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
