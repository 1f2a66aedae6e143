//! How slow a mirror may be. One that trickles is never silent, and would hold its place in the queue, and the
//! mirrors behind it back, for ever.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// A mirror that brings fewer bytes within this time is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub bytes: u64,
    pub within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: 30 << 10, within: Duration::from_secs(30) }
    }
}

/// The mirror was slower than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow(pub(super) Pace);

/// Measures one answer.
pub(super) struct Measure {
    pace: Pace,
    since: Instant,
    bytes: u64,
}

impl Measure {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, since: Instant::now(), bytes: 0 }
    }

    /// Counts what has come.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Waits for what comes next, as long as enough has come lately.
    pub(super) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut next = pin!(next);
        loop {
            match timeout_at(self.since + self.pace.within, &mut next).await {
                Ok(next) => return Ok(next),
                Err(_) if self.bytes < self.pace.bytes => return Err(TooSlow(self.pace)),
                Err(_) => (self.since, self.bytes) = (Instant::now(), 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use sha2::Digest;
    use supervisor_protocol::Sha256;
    use versiond_core::catalog::{Artifact, UrlRules};

    use super::*;
    use crate::store::{Limits, Store};

    /// Answers each request with this head, then with these bytes, one each `every`.
    fn mirror(head: String, bytes: Vec<u8>, every: Duration) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // The request fits into one read, and nothing depends on what it says.
            assert_ne!(socket.read(&mut [0; 4096]).unwrap(), 0);
            socket.write_all(head.as_bytes()).unwrap();
            if every.is_zero() {
                return socket.write_all(&bytes).unwrap();
            }
            // Until the client has had enough.
            for byte in bytes.iter().cycle() {
                if socket.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(every);
            }
        });
        format!("http://{address}/")
    }

    /// F17.
    #[tokio::test]
    async fn f17_a_mirror_that_trickles_is_given_up_for_the_next_one() {
        let program = b"#!/bin/true".to_vec();
        let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let slow = mirror(head(1 << 20), program.clone(), Duration::from_millis(20));
        let good = mirror(head(program.len()), program.clone(), Duration::ZERO);
        let folder = tempfile::tempdir().unwrap();
        let pace = Pace { bytes: 1_000, within: Duration::from_millis(200) };
        let store = Store::open(folder.path(), true, UrlRules { loopback: true, ..UrlRules::default() })
            .unwrap()
            .with_limits(Limits { pace, ..Limits::default() });
        let sha256 = Sha256(sha2::Sha256::digest(&program).into());
        let artifact = Artifact { sha256, urls: vec![slow, good], size: None, entry: None, irreversible: false };
        let installed = store.ensure(&artifact, None, &|_, _| ());
        let installed = tokio::time::timeout(Duration::from_secs(60), installed).await.expect("it gives up").unwrap();
        assert_eq!(std::fs::read(installed.path).unwrap(), program);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_fast_enough_may_take_as_long_as_it_takes() {
        let mut measure = Measure::new(Pace { bytes: 100, within: Duration::from_secs(30) });
        for _ in 0..100 {
            measure.wait(tokio::time::sleep(Duration::from_secs(10))).await.unwrap();
            measure.count(50);
        }
        measure.wait(tokio::time::sleep(Duration::from_secs(61))).await.unwrap_err();
    }
}
