//! For how long nothing has come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Rings when nothing has come for too long. It costs a timer only once something is waited for, and none for
/// what comes in time.
pub(crate) struct Silence {
    most: Duration,
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(crate) const fn new(most: Duration) -> Self {
        Self { most, since: None, alarm: None }
    }

    /// Something has come.
    pub(crate) const fn ends(&mut self) {
        self.since = None;
    }

    /// Called when nothing has come, for the first time or again; ready when that is so for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.most;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // Set for an earlier silence.
            alarm.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn only_a_silence_of_its_whole_length_rings() {
        let begun = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(10));
        for _ in 0..5 {
            let early = tokio::time::timeout(Duration::from_secs(9), poll_fn(|cx| silence.poll(cx))).await;
            assert!(early.is_err());
            silence.ends();
            // Whatever time passes while nobody waits does not count.
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        poll_fn(|cx| silence.poll(cx)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5 * 109 + 10));
    }
}
