//! Two connections that speak another protocol after 101, joined until either closes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use router_core::leases::How;
use tokio::io::{AsyncWriteExt, copy, split};

use crate::client::ClientConn;
use crate::target::Lease;

/// How long a client may go on sending to a child that has closed its own direction.
const AFTER_THE_CHILD: Duration = Duration::from_secs(5);

/// Copies both ways until both directions have ended, or the lease is cut, and ends the lease.
pub(crate) async fn run(conn: Arc<ClientConn>, mut lease: Lease, client: OnUpgrade, child: OnUpgrade) {
    let joined = async {
        let (client, child) = (client.await, child.await);
        match (client, child) {
            (Ok(client), Ok(child)) => both_ways(client, child).await.is_ok(),
            (Err(_), _) | (_, Err(_)) => false,
        }
    };
    tokio::select! {
        biased;
        () = poll_fn(|cx| lease.poll_cut(cx)) => {
            conn.show_break(true);
            // The book has ended this lease already.
        }
        clean = joined => {
            let how = match (clean, conn.reset().now_or_never()) {
                (true, _) => How::Finished,
                (false, Some(())) => How::ClientGone,
                (false, None) => {
                    conn.show_break(true);
                    How::UpstreamBroke
                }
            };
            lease.finish(how);
        }
    }
}

async fn both_ways(client: Upgraded, child: Upgraded) -> std::io::Result<()> {
    let (mut client_reads, mut client_writes) = split(TokioIo::new(client));
    let (mut child_reads, mut child_writes) = split(TokioIo::new(child));
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
        ended = &mut upwards => {
            ended?;
            downwards.await
        }
        ended = &mut downwards => {
            ended?;
            tokio::time::timeout(AFTER_THE_CHILD, upwards).await.unwrap_or(Ok(()))
        }
    }
}
