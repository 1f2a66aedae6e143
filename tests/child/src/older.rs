//! A build of the older contract: one-shot flags, a port that serves, and the schema of a database that is a folder.
//!
//! Must not live here: anything of the contract that has an admin socket.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The folder that stands for the database.
pub const DATABASE: &str = "DEMO_DATABASE";
/// The schema; in the database.
const SCHEMA: &str = "schema";
/// While there is such a file in the database, it cannot be reached.
const AWAY: &str = "away";
/// The builds that have started, one a line, each with what it found.
const STARTS: &str = "starts";

/// What a build of the older contract knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Older {
    /// `--initialize-postgres-schema` too.
    WithSchema,
    /// It is older than that.
    WithoutSchema,
}

pub(crate) fn main(older: Older, build: &str) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match (&args[..], older) {
        (["--print-binary-version"], _) => writeln!(io::stdout(), "{build}"),
        (["--print-storage-mode"], _) => writeln!(io::stdout(), "postgres"),
        (["--initialize-postgres-schema"], Older::WithSchema) => initialize(),
        (["--port", port, ..], _) => serve(port, build),
        (_, Older::WithSchema | Older::WithoutSchema) => {
            // Nobody may be listening.
            writeln!(io::stderr(), "flag provided but not defined: {}", args.join(" ")).ok();
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "{build}: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn database() -> io::Result<PathBuf> {
    std::env::var_os(DATABASE).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{DATABASE} is not set")))
}

fn initialize() -> io::Result<()> {
    let database = database()?;
    if database.join(AWAY).exists() {
        return Err(io::Error::other("the database is away"));
    }
    fs::write(database.join(SCHEMA), "")
}

fn serve(port: &str, build: &str) -> io::Result<()> {
    let database = database()?;
    let found = if database.join(SCHEMA).exists() { "schema" } else { "nothing" };
    let mut starts = OpenOptions::new().create(true).append(true).open(database.join(STARTS))?;
    starts.write_all(format!("{build} {found}\n").as_bytes())?;
    let port = port.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for stream in listener.incoming() {
        // A client that has gone is no reason to end.
        answer(&stream?, build).ok();
    }
    Ok(())
}

/// It has no admin port, and knows nothing of drains.
fn answer(mut stream: &TcpStream, build: &str) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match first.split(' ').nth(1) {
        Some("/healthz" | "/hello") => ("200 OK", build),
        _ => ("404 Not Found", "no such page"),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
