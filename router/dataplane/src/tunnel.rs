//! Two connections that speak another protocol after 101, joined until either closes.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use router_core::leases::How;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio_util::io::InspectReader;

use crate::client::Client;
use crate::target::Lease;
use crate::upstream::Upgraded;

/// How long a client may go on sending to a child that has closed its own direction, and how long the last
/// words of a child that takes nothing more may take to come through.
const AFTER_THE_CHILD: Duration = Duration::from_secs(5);

/// Copies both ways until both directions have ended, nothing has come for `idle`, or the lease is cut; and ends
/// the lease.
pub(crate) async fn run(client: Client, mut lease: Lease, upgrade: OnUpgrade, child: Upgraded, idle: Duration) {
    let passed = AtomicU64::new(0);
    let count = |bytes: &[u8]| {
        passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    };
    let joined = async {
        match upgrade.await {
            Ok(upgraded) => {
                let (ours, child) =
                    (InspectReader::new(TokioIo::new(upgraded), count), InspectReader::new(child, count));
                both_ways(ours, child, client.reset()).await.is_ok()
            }
            Err(_) => false,
        }
    };
    let silent = async {
        let mut before = passed.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(idle).await;
            let now = passed.load(Ordering::Relaxed);
            if std::mem::replace(&mut before, now) == now {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = poll_fn(|cx| lease.poll_cut(cx)) => {
            client.show_break(true);
            // The book has ended this lease already.
        }
        () = silent => {
            client.show_break(true);
            lease.finish(How::Cut);
        }
        clean = joined => {
            let how = match (clean, client.reset().now_or_never()) {
                (true, _) => How::Finished,
                (false, Some(())) => How::ClientGone,
                (false, None) => {
                    client.show_break(true);
                    How::UpstreamBroke
                }
            };
            lease.finish(how);
        }
    }
}

/// `reset` resolves when the client listens no more.
async fn both_ways(
    client: impl AsyncRead + AsyncWrite,
    child: impl AsyncRead + AsyncWrite,
    reset: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut client_reads, mut client_writes) = split(client);
    let (mut child_reads, mut child_writes) = split(child);
    let upwards = async {
        copy(&mut client_reads, &mut child_writes).await?;
        child_writes.shutdown().await
    };
    let downwards = async {
        copy(&mut child_reads, &mut client_writes).await?;
        client_writes.shutdown().await
    };
    tokio::pin!(upwards, downwards);
    tokio::select! {
        ended = &mut upwards => match ended {
            Ok(()) => downwards.await,
            Err(error) => {
                tokio::select! {
                    biased;
                    () = reset => {}
                    _ = tokio::time::timeout(AFTER_THE_CHILD, downwards) => {}
                }
                Err(error)
            }
        },
        ended = &mut downwards => {
            ended?;
            tokio::time::timeout(AFTER_THE_CHILD, upwards).await.unwrap_or(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncReadExt, ReadBuf, duplex, join};

    /// Takes nothing that is written to it.
    struct Deaf;

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Is looked at once in vain, so that whatever else is ready goes first.
    struct Late<R>(R, bool);

    impl<R: AsyncRead + Unpin> AsyncRead for Late<R> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if !std::mem::replace(&mut self.1, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    // F53: what the child has said before it stopped to listen is not lost, and the end shows as a break.
    #[tokio::test]
    async fn f53_the_last_words_of_a_child_that_takes_no_more_come_through() {
        let (mut client, here) = duplex(1024);
        client.write_all(b"unheard").await.unwrap();
        let child = join(Late(&b"last words"[..], false), Deaf);
        let ended = both_ways(here, child, std::future::pending()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "last words");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_last_words_to_a_client_that_is_gone_nor_for_ever() {
        for gone in [true, false] {
            let (mut client, here) = duplex(1024);
            client.write_all(b"unheard").await.unwrap();
            let (_silent, child) = duplex(1024);
            let began = tokio::time::Instant::now();
            let reset = async {
                if !gone {
                    std::future::pending().await
                }
            };
            both_ways(here, join(child, Deaf), reset).await.unwrap_err();
            assert_eq!(began.elapsed(), if gone { Duration::ZERO } else { AFTER_THE_CHILD });
        }
    }
}
