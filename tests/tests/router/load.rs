//! Clients that ask without a pause, each through both routers in turn, and count what goes wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::Method;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, SLOT};
use crate::http::{asks, whole};

/// What has not come by then never will.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What clients have met.
#[derive(Debug, Default, Clone)]
pub(crate) struct Met {
    pub(crate) answered: u64,
    /// Method, path, and what came instead of an answer.
    pub(crate) failed: Vec<String>,
}

/// Clients at work.
pub(crate) struct Load {
    met: Arc<Mutex<Met>>,
    stop: CancellationToken,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients, each with a session of its own, that send with this method.
    pub(crate) fn begin(fleet: &Fleet, clients: usize, method: &Method) -> Load {
        let (met, stop) = (Arc::new(Mutex::new(Met::default())), CancellationToken::new());
        let routers: Vec<SocketAddr> = fleet.routers.iter().map(|router| router.address).collect();
        let clients = (0..clients).map(|number| {
            let (met, stop, routers, method) = (met.clone(), stop.clone(), routers.clone(), method.clone());
            tokio::spawn(async move {
                let path = format!("/devshard/{SLOT}/sessions/{number}/stream?ms=40&events=2");
                let mut turn = number;
                while !stop.is_cancelled() {
                    turn += 1;
                    let said = ask(&routers, turn, &method, &path).await;
                    let mut met = met.lock();
                    match said {
                        Ok(()) => met.answered += 1,
                        Err(why) => met.failed.push(format!("{method} {path}: {why}")),
                    }
                }
            })
        });
        let clients = clients.collect();
        Load { met, stop, clients }
    }

    /// What they have met so far.
    pub(crate) fn so_far(&self) -> Met {
        self.met.lock().clone()
    }

    /// Ends them once what they have begun is over.
    pub(crate) async fn end(self) -> Met {
        self.stop.cancel();
        for client in self.clients {
            client.await.unwrap();
        }
        self.met.lock().clone()
    }

    /// Waits until so many more have been answered.
    pub(crate) async fn goes_on(&self, more: u64) {
        let (before, begun) = (self.so_far().answered, Instant::now());
        while self.so_far().answered < before + more {
            assert!(begun.elapsed() < WITHIN, "no {more} answers within {WITHIN:?}: {:#?}", self.so_far());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Through one router, or through the other where that one takes no connection: it is being restarted.
async fn ask(routers: &[SocketAddr], turn: usize, method: &Method, path: &str) -> Result<(), String> {
    let mut connected = None;
    for offset in 0..routers.len() {
        connected = TcpStream::connect(routers[(turn + offset) % routers.len()]).await.ok();
        if connected.is_some() {
            break;
        }
    }
    let stream = connected.ok_or("neither router takes a connection")?;
    match whole(stream, asks(method.clone(), path, "")).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(error) => Err(format!("{error:#}")),
    }
}
