//! The unused connections of one target.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Channel;

const SHARDS: usize = 16;

/// The unused connections of one target, by worker.
pub(crate) struct IdlePool {
    shards: [Mutex<Vec<Idle>>; SHARDS],
    closed: AtomicBool,
}

struct Idle {
    channel: Channel,
    since: Instant,
}

impl Default for IdlePool {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), closed: AtomicBool::new(false) }
    }
}

impl IdlePool {
    /// The connection used last, if it is still usable.
    pub(crate) fn take(&self, worker: usize, idle: Duration) -> Option<Channel> {
        let mut shard = self.shards[worker % SHARDS].lock();
        for at in (0..shard.len()).rev() {
            let kept = &shard[at];
            if kept.since.elapsed() >= idle || kept.channel.is_dead() {
                shard.remove(at);
            } else {
                return Some(shard.remove(at).channel);
            }
        }
        None
    }

    pub(crate) fn put(&self, worker: usize, channel: Channel) {
        let mut shard = self.shards[worker % SHARDS].lock();
        // Under the lock, so that what comes after `close` has emptied the shard is not kept.
        if !self.closed.load(Ordering::Acquire) {
            shard.push(Idle { channel, since: Instant::now() });
        }
    }

    /// Closes what has been unused for too long.
    pub(crate) fn sweep(&self, worker: usize, idle: Duration) {
        self.shards[worker % SHARDS].lock().retain(|kept| kept.since.elapsed() < idle && !kept.channel.is_dead());
    }

    /// Closes everything that is unused, now and until [`IdlePool::reopen`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// Keeps unused connections again.
    pub(crate) fn reopen(&self) {
        self.closed.store(false, Ordering::Release);
    }
}

impl fmt::Debug for IdlePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdlePool").field("closed", &self.closed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    // F57: the kernel knows of the close before the runtime has run again.
    #[tokio::test]
    async fn f57_a_connection_that_the_child_has_closed_is_seen_dead_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Upstream::Tcp(listener.local_addr().unwrap());
        let channel = Channel::open(&upstream, Duration::from_secs(5)).await.unwrap();
        let (child, _) = listener.accept().unwrap();
        tokio::task::yield_now().await;
        assert!(!channel.is_dead());
        drop(child);
        // No await from here on: nothing but the kernel can tell.
        let start = std::time::Instant::now();
        while !channel.is_dead() && start.elapsed() < Duration::from_secs(5) {
            std::hint::spin_loop();
        }
        assert!(channel.is_dead());

        let pool = IdlePool::default();
        pool.put(0, channel);
        assert!(pool.take(0, Duration::from_secs(5)).is_none());
    }
}
