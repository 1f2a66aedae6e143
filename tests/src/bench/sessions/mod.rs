//! What a session host costs beside the bare model behind it: the time to the first token, tokens a second, memory
//! and CPU of a stream, inferences a second with everything that is stored for them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use test_postgres::Postgres;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::latencies;
use super::proc::{cpu_ns, memory};
use crate::sessions::client::{End, Session, told, until_heard};
use crate::sessions::host::Host;
use crate::sessions::model;

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Inferences whose first token is timed, one after the other.
    pub first_tokens: u64,
    /// Tokens of the long answer.
    pub tokens: u32,
    /// Streams at once.
    pub streams: usize,
    /// For how long inferences are asked for.
    pub lasting: Duration,
    /// Who ask for them.
    pub askers: usize,
}

/// Times to the first token, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct First {
    pub p50_us: f64,
    pub p99_us: f64,
}

/// One place of record.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Place {
    pub first: First,
    pub tokens_per_second: f64,
    pub inferences_per_second: f64,
}

/// Everything.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sessions {
    /// The model without a host.
    pub bare_first: First,
    pub bare_tokens_per_second: f64,
    pub local: Place,
    /// `None` where no Postgres is installed.
    pub shared: Option<Place>,
    pub streams: usize,
    pub kib_per_stream: f64,
    /// With a token a second on each.
    pub cpu_us_per_token: f64,
}

/// Measures `program`; `say` is told what goes on.
pub async fn run(program: &Path, size: Size, say: impl Fn(&str)) -> anyhow::Result<Sessions> {
    let model = model::serve(Duration::ZERO).await?;
    say("the bare model");
    let bare_first = first_bare(model, size.first_tokens).await?;
    let bare_tokens_per_second = bare_tokens(model, size.tokens).await?;
    say("a host with a file");
    let local = place(program, model, size, &[]).await?;
    let shared = if test_postgres::is_installed() {
        say("a host on Postgres");
        let postgres = Postgres::start()?;
        let url = postgres.create("bench")?;
        let more = [
            ("DEVSHARD_STORAGE_MODE", "shared".to_owned()),
            ("DEVSHARD_DATABASE_URL", url),
            ("PG_POOL_MAX_CONNS", "16".to_owned()),
        ];
        Some(place(program, model, size, &more).await?)
    } else {
        say("no Postgres is installed: nothing is measured with it");
        None
    };
    say(&format!("{} streams", size.streams));
    let (kib_per_stream, cpu_us_per_token) = streams(program, size.streams).await?;
    Ok(Sessions {
        bare_first,
        bare_tokens_per_second,
        local,
        shared,
        streams: size.streams,
        kib_per_stream,
        cpu_us_per_token,
    })
}

async fn place(program: &Path, model: SocketAddr, size: Size, more: &[(&str, String)]) -> anyhow::Result<Place> {
    let engine = [("DEVSHARD_ENGINE", format!("http://{model}"))];
    let host = Host::start(program, &[&engine[..], more].concat())?;
    let session = Session::new("first");
    let (mut times, mut owed) = (latencies()?, Vec::new());
    for nonce in 1..=size.first_tokens {
        let asked = session.asks_with("", nonce, 1, &owed, 0);
        let (begun, mut first) = (Instant::now(), None);
        // Event 0 is the receipt, which needs no model.
        let heard = asked.resume(host.address, None, |n| first = first.or((n == 2).then(|| begun.elapsed()))).await;
        ensure!(heard.end == End::Whole, "{:?}", heard.end);
        owed = heard.owed();
        times.saturating_record(u64::try_from(first.context("no token")?.as_nanos())?);
    }
    let begun = Instant::now();
    let heard = Session::new("long").asks("", 1, size.tokens).send(host.address).await;
    ensure!(heard.end == End::Whole, "{:?}", heard.end);
    let tokens_per_second = f64::from(size.tokens) / begun.elapsed().as_secs_f64();

    let end = Instant::now() + size.lasting;
    let mut asking = JoinSet::new();
    for asker in 0..size.askers {
        let (session, address) = (Session::new(&format!("asker-{asker}")), host.address);
        asking.spawn(async move {
            let (mut asked, mut owed) = (0, Vec::new());
            while Instant::now() < end {
                asked += 1;
                let heard = session.asks_with("", asked, 1, &owed, 0).send(address).await;
                ensure!(heard.end == End::Whole, "{:?}", heard.end);
                owed = heard.owed();
            }
            Ok(asked)
        });
    }
    let mut inferences = 0;
    while let Some(asked) = asking.join_next().await {
        inferences += asked??;
    }
    let inferences_per_second = inferences as f64 / size.lasting.as_secs_f64();
    Ok(Place { first: first(&times), tokens_per_second, inferences_per_second })
}

fn first(times: &super::load::Latencies) -> First {
    let us = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    First { p50_us: us(0.5), p99_us: us(0.99) }
}

async fn first_bare(model: SocketAddr, count: u64) -> anyhow::Result<First> {
    let mut times = latencies()?;
    for _ in 0..count {
        times.saturating_record(u64::try_from(bare(model, 1).await?.0.as_nanos())?);
    }
    Ok(first(&times))
}

async fn bare_tokens(model: SocketAddr, tokens: u32) -> anyhow::Result<f64> {
    Ok(f64::from(tokens) / bare(model, tokens).await?.1.as_secs_f64())
}

/// Asks the model itself, over a connection of its own: the time to its first bytes, and to its last.
async fn bare(model: SocketAddr, tokens: u32) -> anyhow::Result<(Duration, Duration)> {
    let begun = Instant::now();
    let stream = TokioIo::new(TcpStream::connect(model).await?);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(driver);
    let body = Full::new(Bytes::from(format!("{{\"max_tokens\":{tokens}}}")));
    let asked = Request::builder().method(Method::POST).uri("/v1/chat/completions").header(HOST, "model").body(body)?;
    let mut body = sender.send_request(asked).await?.into_body();
    let mut first = None;
    while let Some(frame) = body.frame().await {
        frame?;
        first.get_or_insert_with(|| begun.elapsed());
    }
    Ok((first.context("no token")?, begun.elapsed()))
}

/// Memory of a stream in KiB, and CPU of a token in microseconds, with a token a second on each stream.
async fn streams(program: &Path, count: usize) -> anyhow::Result<(f64, f64)> {
    const TOKENS: u32 = 20;
    const WINDOW: Duration = Duration::from_secs(5);
    let host = Host::start(program, &[("DEVSHARD_ECHO_EVERY", "1s".to_owned())])?;
    let empty = memory(host.pid())?.rss;
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut streaming = JoinSet::new();
    for number in 0..count {
        let (asked, sender) = (Session::new(&format!("stream-{number}")).asks("", 1, TOKENS), sender.clone());
        let address = host.address;
        streaming.spawn(async move { asked.resume(address, None, |n| told(&sender, n)).await });
    }
    until_heard(&mut begun, count, 2).await?;
    let before = cpu_ns(host.pid())?;
    tokio::time::sleep(WINDOW).await;
    let (used, full) = (cpu_ns(host.pid())? - before, memory(host.pid())?.rss);
    while let Some(ended) = streaming.join_next().await {
        let heard = ended?;
        ensure!(heard.is_whole(TOKENS).is_ok(), "{:?}", heard.end);
    }
    let tokens = count as f64 * WINDOW.as_secs_f64();
    Ok((full.saturating_sub(empty) as f64 / 1_024.0 / count as f64, used as f64 / 1_000.0 / tokens))
}

impl Sessions {
    /// As a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(["what", "bare model", "with a file", "on Postgres"]);
        let shared =
            |of: fn(&Place) -> f64| self.shared.as_ref().map_or("-".to_owned(), |place| format!("{:.0}", of(place)));
        let row = |what: &str, bare: Option<f64>, of: fn(&Place) -> f64| {
            let bare = bare.map_or("-".to_owned(), |bare| format!("{bare:.0}"));
            [what.to_owned(), bare, format!("{:.0}", of(&self.local)), shared(of)]
        };
        table.add_row(row("first token p50, µs", Some(self.bare_first.p50_us), |place| place.first.p50_us));
        table.add_row(row("first token p99, µs", Some(self.bare_first.p99_us), |place| place.first.p99_us));
        table.add_row(row("tokens a second, one stream", Some(self.bare_tokens_per_second), |place| {
            place.tokens_per_second
        }));
        table.add_row(row("inferences a second", None, |place| place.inferences_per_second));
        format!(
            "{table}\n{} streams at once: {:.1} KiB each, {:.1} µs of CPU for a token",
            self.streams, self.kib_per_stream, self.cpu_us_per_token
        )
    }
}
