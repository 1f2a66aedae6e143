//! A request's body on its way to a child, kept as long as another attempt may need it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use router_core::retry::BodyState;

use crate::client::{ClientBody, ClientBodyError};

/// Why a body cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client broke off")]
    Client(#[source] ClientBodyError),
    #[error("it is longer than it may be")]
    TooLarge,
    #[error("another attempt reads the body now")]
    Superseded,
}

/// Why the one body of a request is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broke {
    /// The client broke off, or broke the grammar.
    Client,
    TooLarge,
}

/// The one body of a request, from which each attempt reads.
pub(crate) struct BodySource(Option<Arc<Mutex<Source>>>);

struct Source {
    incoming: ClientBody,
    kept: Kept,
    touched: bool,
    ended: bool,
    broke: Option<Broke>,
    /// How much has been read, and may be; in bytes.
    taken: u64,
    most: u64,
    /// The attempt that may read.
    attempt: u32,
}

enum Kept {
    /// All that has been read, of which the present attempt has `sent` frames behind it.
    All { frames: VecDeque<Bytes>, sent: usize, total: usize, limit: usize },
    /// No attempt follows: what the present one has still to send, before it reads on.
    Rest(VecDeque<Bytes>),
}

impl BodySource {
    /// `limit` bytes are kept for another attempt at most, and the body may have `most`.
    pub(crate) fn new(incoming: ClientBody, limit: usize, most: Option<u64>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        let kept = match limit {
            0 => Kept::Rest(VecDeque::new()),
            _ => Kept::All { frames: VecDeque::new(), sent: 0, total: 0, limit },
        };
        Self(Some(Arc::new(Mutex::new(Source {
            incoming,
            kept,
            touched: false,
            ended: false,
            broke: None,
            taken: 0,
            most: most.unwrap_or(u64::MAX),
            attempt: 0,
        }))))
    }

    /// The body from its beginning. What an earlier attempt holds fails from now on.
    pub(crate) fn attempt(&self) -> AttemptBody {
        AttemptBody(self.0.as_ref().map(|shared| {
            let mut source = shared.lock();
            source.attempt += 1;
            source.kept.rewind();
            Reader { source: shared.clone(), attempt: source.attempt }
        }))
    }

    pub(crate) fn state(&self) -> BodyState {
        let Some(shared) = &self.0 else { return BodyState::Unread };
        let source = shared.lock();
        match (&source.kept, source.touched) {
            (_, false) => BodyState::Unread,
            (Kept::All { .. }, true) => BodyState::Buffered,
            (Kept::Rest(_), true) => BodyState::Streaming,
        }
    }

    /// Why it will never be whole.
    pub(crate) fn broke(&self) -> Option<Broke> {
        self.0.as_ref().and_then(|shared| shared.lock().broke)
    }

    /// How much of it has been read, in bytes.
    pub(crate) fn taken(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.lock().taken)
    }

    /// No other attempt follows: nothing more is kept, and what is kept goes as it is sent.
    pub(crate) fn settle(&self) {
        if let Some(shared) = &self.0 {
            shared.lock().kept.settle();
        }
    }
}

impl Source {
    fn is_at_end(&self) -> bool {
        self.kept.ahead().next().is_none() && (self.ended || self.incoming.is_end_stream())
    }
}

impl Kept {
    /// What the present attempt has still to send.
    fn ahead(&self) -> impl Iterator<Item = &Bytes> {
        let (frames, sent) = match self {
            Kept::All { frames, sent, .. } => (frames, *sent),
            Kept::Rest(frames) => (frames, 0),
        };
        frames.iter().skip(sent)
    }

    fn next(&mut self) -> Option<Bytes> {
        match self {
            Kept::All { frames, sent, .. } => {
                let frame = frames.get(*sent).cloned();
                *sent += usize::from(frame.is_some());
                frame
            }
            Kept::Rest(frames) => frames.pop_front(),
        }
    }

    /// Keeps what was read, and is sent at once.
    fn keep(&mut self, frame: &Bytes) {
        match self {
            Kept::All { frames, sent, total, limit } if *total + frame.len() <= *limit => {
                *total += frame.len();
                frames.push_back(frame.clone());
                *sent = frames.len();
            }
            Kept::All { .. } | Kept::Rest(_) => self.settle(),
        }
    }

    fn rewind(&mut self) {
        match self {
            Kept::All { sent, .. } => *sent = 0,
            Kept::Rest(_) => {}
        }
    }

    fn settle(&mut self) {
        if let Kept::All { frames, sent, .. } = self {
            *self = Kept::Rest(frames.split_off(*sent));
        }
    }
}

/// The body as one attempt sends it.
pub(crate) struct AttemptBody(Option<Reader>);

struct Reader {
    source: Arc<Mutex<Source>>,
    attempt: u32,
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(reader) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let mut source = reader.source.lock();
        if source.attempt != reader.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(frame) = source.kept.next() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if source.ended {
            return Poll::Ready(None);
        }
        source.touched = true;
        match ready!(Pin::new(&mut source.incoming).poll_frame(cx)) {
            None => {
                source.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                source.broke = Some(Broke::Client);
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
            Some(Ok(frame)) => {
                match frame.data_ref() {
                    Some(data) => {
                        source.taken += data.len() as u64;
                        if source.taken > source.most {
                            source.broke = Some(Broke::TooLarge);
                            return Poll::Ready(Some(Err(BodyError::TooLarge)));
                        }
                        source.kept.keep(data);
                    }
                    None => source.kept.settle(),
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|reader| reader.source.lock().is_at_end())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(reader) = &self.0 else { return SizeHint::with_exact(0) };
        let source = reader.source.lock();
        let kept: usize = source.kept.ahead().map(Bytes::len).sum();
        let ahead = source.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(ahead.lower() + kept as u64);
        if let Some(upper) = ahead.upper() {
            hint.set_upper(upper + kept as u64);
        }
        hint
    }
}
