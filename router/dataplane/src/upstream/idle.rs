//! The connections of one target on which requests can be sent: those that nobody uses, and those that many share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Channel;
use super::http2::Http2;

const SHARDS: usize = 16;

/// The connections of one target, by worker.
pub(crate) struct IdlePool {
    shards: [Mutex<Shard>; SHARDS],
    closed: AtomicBool,
}

#[derive(Default)]
struct Shard {
    unused: Vec<Idle<Channel>>,
    shared: Vec<Idle<Http2>>,
}

struct Idle<C> {
    channel: C,
    since: Instant,
}

impl Default for IdlePool {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), closed: AtomicBool::new(false) }
    }
}

impl IdlePool {
    /// The connection used last, if it is still usable; or one that is shared and has room.
    pub(crate) fn take(&self, worker: usize, idle: Duration) -> Option<Channel> {
        let mut shard = self.shards[worker % SHARDS].lock();
        while let Some(mut kept) = shard.unused.pop() {
            if kept.since.elapsed() < idle && !kept.channel.is_dead() {
                return Some(kept.channel);
            }
        }
        shard.shared.retain(|kept| !kept.channel.is_dead());
        let free = shard.shared.iter_mut().find(|kept| kept.channel.is_free())?;
        free.since = Instant::now();
        Some(Channel::Http2(free.channel.clone()))
    }

    /// Keeps a connection that nobody uses.
    pub(crate) fn put(&self, worker: usize, channel: Channel) {
        let mut shard = self.shards[worker % SHARDS].lock();
        // Under the lock, so that what comes after `close` has emptied the shard is not kept.
        if !self.closed.load(Ordering::Acquire) {
            shard.unused.push(Idle { channel, since: Instant::now() });
        }
    }

    /// Lets others use a new connection too, if it can be shared.
    pub(crate) fn share(&self, worker: usize, channel: &Channel) {
        let Channel::Http2(connection) = channel else { return };
        let mut shard = self.shards[worker % SHARDS].lock();
        if !self.closed.load(Ordering::Acquire) {
            shard.shared.push(Idle { channel: connection.clone(), since: Instant::now() });
        }
    }

    /// Closes what has been unused for too long.
    pub(crate) fn sweep(&self, worker: usize, idle: Duration) {
        let mut shard = self.shards[worker % SHARDS].lock();
        shard.unused.retain_mut(|kept| kept.since.elapsed() < idle && !kept.channel.is_dead());
        shard.shared.retain_mut(|kept| {
            if !kept.channel.is_idle() {
                kept.since = Instant::now();
            }
            kept.since.elapsed() < idle && !kept.channel.is_dead()
        });
    }

    /// Closes everything that is unused, now and until [`IdlePool::reopen`]. What is shared is closed with its last
    /// request.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            *shard.lock() = Shard::default();
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
    use crate::clock::Clock;
    use crate::config::PlaneConfig;
    use crate::upstream::Upstream;

    // F57: the kernel knows of the close before the runtime has run again.
    #[tokio::test]
    async fn f57_a_connection_that_the_child_has_closed_is_seen_dead_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = Upstream::Tcp(listener.local_addr().unwrap()).into();
        let mut channel = Channel::open(&dial, &PlaneConfig::of_router(Clock::start())).await.unwrap();
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
