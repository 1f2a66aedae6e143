//! One inference as this process sees it: what has come so far, how it ended, and those who follow it.
//!
//! Whoever runs or fetches it writes; any number of clients read, each from its own event on. What is written stays
//! until the last reader is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devshard_core::events::{EndCode, Record, write_end};
use devshard_core::ids::InferenceId;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;

/// A silent stream says that it is there this often, in a comment, so that nobody on the way takes it for dead.
const BEAT: Duration = Duration::from_secs(15);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything is there, and stored.
    Whole,
    Early(EndCode, String),
}

/// One inference.
#[derive(Debug)]
pub struct Flight {
    inference: InferenceId,
    progress: Mutex<Progress>,
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Progress {
    record: Record,
    end: Option<End>,
}

/// What a reader gets next.
enum Next {
    Bytes(Vec<u8>),
    /// The last bytes.
    Last(Vec<u8>),
    Wait,
}

impl Flight {
    #[must_use]
    pub fn new(inference: InferenceId) -> Arc<Flight> {
        Arc::new(Flight { inference, progress: Mutex::default(), moved: watch::Sender::new(()) })
    }

    /// One more event.
    pub fn push(&self, payload: &[u8]) -> bool {
        let written = self.progress.lock().record.push(payload);
        self.moved.send_replace(());
        written
    }

    /// What has come so far.
    #[must_use]
    pub fn so_far(&self) -> Record {
        self.progress.lock().record.clone()
    }

    /// It is whole: this is all of it.
    pub fn whole(&self, record: Record) {
        *self.progress.lock() = Progress { record, end: Some(End::Whole) };
        self.moved.send_replace(());
    }

    /// It ends early. An end that was told before stays.
    pub fn early(&self, code: EndCode, message: String) {
        self.progress.lock().end.get_or_insert(End::Early(code, message));
        self.moved.send_replace(());
    }

    /// Waits until its first event is there, or it has ended.
    pub async fn begun(&self) {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let is_begun = {
                let progress = self.progress.lock();
                !progress.record.is_empty() || progress.end.is_some()
            };
            // The sender lives as long as this does.
            if is_begun || moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until it has ended, and says how, with everything that has come.
    pub async fn ended(&self) -> (End, Record) {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let ended = {
                let progress = self.progress.lock();
                progress.end.clone().map(|end| (end, progress.record.clone()))
            };
            if let Some(ended) = ended {
                return ended;
            }
            // The sender lives as long as this does.
            let _ = moved.changed().await;
        }
    }

    /// Its events from this one on, as they come, and how it ended.
    pub fn follow(self: Arc<Self>, from: u32) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        let moved = self.moved.subscribe();
        let state = Some((self, moved, from));
        futures_util::stream::unfold(state, async |state| {
            let (flight, mut moved, mut next) = state?;
            loop {
                moved.mark_unchanged();
                match flight.next(&mut next) {
                    Next::Bytes(bytes) => return Some((Ok(Bytes::from(bytes)), Some((flight, moved, next)))),
                    Next::Last(bytes) => return Some((Ok(Bytes::from(bytes)), None)),
                    Next::Wait => {}
                }
                match tokio::time::timeout(BEAT, moved.changed()).await {
                    // The sender lives in the flight, which is held here.
                    Ok(_) => {}
                    Err(_) => return Some((Ok(Bytes::from_static(b": waiting\n\n")), Some((flight, moved, next)))),
                }
            }
        })
    }

    fn next(&self, next: &mut u32) -> Next {
        let progress = self.progress.lock();
        let mut bytes = Vec::new();
        *next = progress.record.write_from(&mut bytes, self.inference, *next);
        match &progress.end {
            None if bytes.is_empty() => Next::Wait,
            None => Next::Bytes(bytes),
            Some(End::Whole) => {
                let known = u32::try_from(progress.record.len()).unwrap_or(u32::MAX);
                if *next > known {
                    let message = format!("the result has {known} events");
                    write_end(&mut bytes, EndCode::UnknownCursor, &message);
                }
                Next::Last(bytes)
            }
            Some(End::Early(code, message)) => {
                write_end(&mut bytes, *code, message);
                Next::Last(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    async fn text(stream: impl Stream<Item = Result<Bytes, std::convert::Infallible>>) -> String {
        let pieces: Vec<_> = stream.collect().await;
        pieces.into_iter().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn readers_at_any_place_get_what_follows() {
        let flight = Flight::new(InferenceId(7));
        assert!(flight.push(b"zero"));
        let (first, late) =
            (tokio::spawn(text(flight.clone().follow(0))), tokio::spawn(text(flight.clone().follow(1))));
        tokio::task::yield_now().await;
        assert!(flight.push(b"one"));
        let mut whole = flight.so_far();
        assert!(whole.push(b"two"));
        flight.whole(whole);
        let rest = "id: 7:1\ndata: one\n\nid: 7:2\ndata: two\n\n";
        assert_eq!(first.await.unwrap(), format!("id: 7:0\ndata: zero\n\n{rest}"));
        assert_eq!(late.await.unwrap(), rest);
        // Whoever has everything gets the end and nothing else; whoever has more is told.
        assert_eq!(text(flight.clone().follow(3)).await, "");
        assert!(text(flight.clone().follow(4)).await.contains("unknown_cursor"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_beats_and_an_early_end_is_told() {
        let flight = Flight::new(InferenceId(7));
        let reading = tokio::spawn(text(flight.clone().follow(0)));
        tokio::time::sleep(BEAT + Duration::from_secs(1)).await;
        flight.early(EndCode::ModelFailed, "it broke off".to_owned());
        flight.early(EndCode::StillRunning, "too late".to_owned());
        let text = reading.await.unwrap();
        assert!(text.starts_with(": waiting\n\nevent: error\n"), "{text}");
        assert!(text.contains("model_failed") && !text.contains("still_running"), "{text}");
    }
}
