//! One call from `main`: reads what is asked, does it, and returns the exit code.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use http::{Request, Response};
use listenfd::ListenFd;
use supervisor_protocol::contract::{Describe, DrainMode, Listen, Needs, Role, StateKind};
use supervisor_protocol::{CONTRACT, StreamClass};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::admin::{Admin, AdminError};
use crate::context::Context;
use crate::drain::drain;
use crate::exit;
use crate::life::Gate;
use crate::serve::{App, Server};
use crate::settings::{Command, Drain, Flag, Run, parse, usage};
use crate::shared::{Metrics, Shared};
use crate::socket::Listening;

type BoxError = Box<dyn Error + Send + Sync>;
type Task<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A description with the usual answers: no traffic classes but requests, a drain can be taken back.
/// Change the fields that differ.
#[must_use]
pub fn describe(name: impl Into<String>, version: impl Into<String>, state: StateKind) -> Describe {
    Describe {
        contract: CONTRACT,
        name: name.into(),
        version: version.into(),
        role: Role::Server,
        state,
        data: None,
        undrain: true,
        listen: vec![Listen::Tcp, Listen::Fd, Listen::Unix],
        http2: false,
        streams: vec![StreamClass::Request],
        drain_modes: vec![DrainMode::All],
        needs: Needs::default(),
    }
}

/// A child of a supervisor. Call it from a plain `main`: it brings its own runtimes.
pub struct Child {
    describe: Describe,
    flags: Vec<Flag>,
    metrics: Option<Metrics>,
}

impl Child {
    /// A child that describes itself so.
    #[must_use]
    pub fn new(describe: Describe) -> Self {
        Self { describe, flags: Vec::new(), metrics: None }
    }

    /// Declares a flag of the child's own that takes a value, e.g. `("--model", "PATH")`; any flag that
    /// is not declared is a usage error. Read it with [`Context::flag`].
    #[must_use]
    pub fn flag(mut self, name: &'static str, value: &'static str) -> Self {
        self.flags.push(Flag { name, value });
        self
    }

    /// More lines for `GET /metrics`, in the Prometheus text format.
    #[must_use]
    pub fn metrics(mut self, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Box::new(metrics));
        self
    }

    /// Serves what `build` returns. The listeners are open before it is called; the child is ready when
    /// it returns, unless it has used [`Context::readiness`] to say something else.
    pub fn serve<B, F, S, E>(self, build: B) -> ExitCode
    where
        B: FnOnce(Context) -> F,
        F: Future<Output = Result<S, E>> + Send + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        E: Into<BoxError>,
    {
        self.main(|context| {
            let build = build(context);
            Work::Server(Box::pin(async { build.await.map(BoxCloneSyncService::new).map_err(Into::into) }))
        })
    }

    /// Runs a worker, which has no traffic: `work` loops and takes a [`Context::lease`] for each piece.
    /// Under a supervisor it starts paused. After the stop signal no lease is given; when the last one
    /// has ended the loop is dropped.
    pub fn work<W, F, E>(mut self, work: W) -> ExitCode
    where
        W: FnOnce(Context) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.describe.role = Role::Worker;
        self.main(|context| {
            let work = work(context);
            Work::Worker(Box::pin(async { work.await.map_err(Into::into) }))
        })
    }

    fn main(self, work: impl FnOnce(Context) -> Work) -> ExitCode {
        let name = self.describe.name.clone();
        let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
        let needs_port = self.describe.role == Role::Server;
        let command = match parse(args, |name| std::env::var(name).ok(), &self.flags, needs_port) {
            Ok(command) => command,
            Err(error) => {
                complain(&name, &error);
                say(io::stderr(), usage(&name, &self.flags).trim_end());
                return ExitCode::from(exit::USAGE);
            }
        };
        match command {
            Command::Help => {
                say(io::stdout(), usage(&name, &self.flags).trim_end());
                ExitCode::from(exit::OK)
            }
            Command::Describe => {
                say(io::stdout(), &serde_json::json!(self.describe).to_string());
                ExitCode::from(exit::OK)
            }
            Command::Drain(command) => ask_to_drain(&name, &command),
            Command::Run(run) => {
                // While there is one thread: it takes variables out of the environment.
                let result = handed_over(&run).and_then(|handed| {
                    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                    let runtime = runtime.map_err(RunError::Runtime)?;
                    let result = self.run(&runtime, *run, handed, work);
                    // A thread that blocks for ever must not keep the process.
                    runtime.shutdown_background();
                    result
                });
                match result {
                    Ok(()) => ExitCode::from(exit::OK),
                    Err(error) => {
                        complain(&name, &error);
                        ExitCode::from(exit::FAILED)
                    }
                }
            }
        }
    }

    fn run(
        self,
        runtime: &Runtime,
        run: Run,
        handed: Option<Handed>,
        work: impl FnOnce(Context) -> Work,
    ) -> Result<(), RunError> {
        let paused = self.describe.role == Role::Worker && run.supervised;
        let gate = if paused { Gate::Draining(DrainMode::All) } else { Gate::Open };
        let name = self.describe.name.clone();
        let shared = Shared::new(self.describe, run.identity.clone(), self.metrics, gate);
        let _inside = runtime.enter();
        let context = Context { shared: Arc::clone(&shared), run: Arc::new(run) };
        // Before anything can be asked of us, so that no early stop signal kills.
        let mut stop = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
        let listener = runtime.block_on(listen(&context.run, handed))?;
        if let Some(listener) = &listener {
            say(io::stderr(), &format!("{name}: listening on {}", listener.place()));
        }
        let admin = Admin::start(&shared, context.run.admin.as_deref(), context.run.probe)?;
        let work = work(context.clone());
        let result = runtime.block_on(live(&context, listener, work, async move {
            stop.recv().await;
        }));
        admin.end();
        result
    }
}

enum Work {
    Server(Task<App>),
    Worker(Task<()>),
}

/// Why a child ended with a failure.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signal(#[source] io::Error),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("cannot use the listening socket that was handed over")]
    HandedOver(#[source] io::Error),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the child failed")]
    Failed(#[source] BoxError),
    #[error("{inflight} still in flight when the grace of {} s ended", .grace.as_secs())]
    Grace { inflight: u64, grace: std::time::Duration },
}

/// The socket that the supervisor has bound for this process.
enum Handed {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

fn handed_over(run: &Run) -> Result<Option<Handed>, RunError> {
    if run.listen_pid != Some(std::process::id()) {
        return Ok(None);
    }
    let mut given = ListenFd::from_env();
    // Of the other kind it is put back.
    let handed = match given.take_unix_listener(0) {
        Ok(unix) => unix.map(Handed::Unix),
        Err(_) => given.take_tcp_listener(0).map_err(RunError::HandedOver)?.map(Handed::Tcp),
    };
    match &handed {
        Some(Handed::Tcp(listener)) => listener.set_nonblocking(true),
        Some(Handed::Unix(listener)) => listener.set_nonblocking(true),
        None => Ok(()),
    }
    .map_err(RunError::HandedOver)?;
    Ok(handed)
}

async fn listen(run: &Run, handed: Option<Handed>) -> Result<Option<Listening>, RunError> {
    let Some(port) = run.port else { return Ok(None) };
    match handed {
        Some(Handed::Tcp(listener)) => {
            TcpListener::from_std(listener).map(Listening::Tcp).map_err(RunError::HandedOver)
        }
        Some(Handed::Unix(listener)) => {
            UnixListener::from_std(listener).map(Listening::Unix).map_err(RunError::HandedOver)
        }
        None => {
            let at = SocketAddr::new(run.address, port);
            TcpListener::bind(at).await.map(Listening::Tcp).map_err(|source| RunError::Listen(at, source))
        }
    }
    .map(Some)
}

/// From the open listener to the end of the last admitted work.
async fn live(
    context: &Context,
    listener: Option<Listening>,
    work: Work,
    stopped: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let server = Arc::new(Server {
        shared: Arc::clone(&context.shared),
        app: Arc::new(OnceLock::new()),
        stop: CancellationToken::new(),
        close: CancellationToken::new(),
        connections: TaskTracker::new(),
    });
    let accepting = listener.map(|listener| tokio::spawn(Arc::clone(&server).run(listener)));
    let working = tokio::spawn(do_work(context.clone(), Arc::clone(&server.app), work));
    let abort = working.abort_handle();
    let ended = async {
        match working.await {
            Ok(Ok(Ended::Built)) => std::future::pending().await,
            Ok(Ok(Ended::Finished)) => Ok(()),
            Ok(Err(error)) => Err(RunError::Failed(error)),
            Err(panicked) => Err(RunError::Failed(panicked.into())),
        }
    };
    let result = tokio::select! {
        () = stopped => Ok(()),
        ended = ended => ended,
    };

    let grace = context.run.grace;
    let deadline = Instant::now() + grace;
    context.shared.change(crate::life::Life::stop);
    server.stop.cancel();
    if let Some(accepting) = accepting {
        // It only returns; the listener closes with it.
        let _ = accepting.await;
    }
    // Idle connections stay until the work is done: whoever just sent a request on one gets a refusal
    // that can be taken elsewhere, not a reset that cannot.
    let idle = timeout_at(deadline, context.shared.wait(|life| life.inflight() == 0)).await;
    abort.abort();
    server.close.cancel();
    server.connections.close();
    let _ = timeout_at(deadline, server.connections.wait()).await;
    result.and_then(|()| {
        let inflight = context.shared.read(crate::life::Life::inflight);
        idle.map_err(|_| RunError::Grace { inflight, grace })
    })
}

enum Ended {
    Built,
    Finished,
}

async fn do_work(context: Context, app: Arc<OnceLock<App>>, work: Work) -> Result<Ended, BoxError> {
    match work {
        Work::Server(build) => {
            let _ = app.set(build.await?);
            context.readiness().started();
            Ok(Ended::Built)
        }
        Work::Worker(work) => work.await.map(|()| Ended::Finished),
    }
}

fn ask_to_drain(name: &str, command: &Drain) -> ExitCode {
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(drain(command, |status| {
            let load = supervisor_protocol::admin::describe_load(&status.by_class);
            say(io::stderr(), &format!("{name}: draining, in flight: {load}"));
        })),
        Err(error) => {
            complain(name, &RunError::Runtime(error));
            return ExitCode::from(exit::FAILED);
        }
    };
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            complain(name, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn complain(name: &str, error: &dyn Error) {
    let mut line = format!("{name}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    say(io::stderr(), &line);
}

/// Nobody may be listening any more, which changes nothing.
fn say(mut to: impl io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
}
