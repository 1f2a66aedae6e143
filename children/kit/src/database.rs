//! A database by its URL: `postgres://…`, or `sqlite:…` for a file of this host alone.
//!
//! The pool is bounded, a question has a limit, and who waits for a database says why.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor as _};

/// Which one it is. They differ in how they lock, tell the time and divide tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// How it is used.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    /// Connections at most.
    pub connections: u32,
    /// How long one question may take, and how long a free connection is waited for.
    pub within: Duration,
    /// For so long a database that does not answer at the start is waited for.
    pub patience: Duration,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("a database URL begins with `postgres://` or `sqlite:`")]
    Scheme,
    #[error("the database does not answer")]
    Silent(#[source] sqlx::Error),
}

/// An open pool.
#[derive(Debug, Clone)]
pub struct Database {
    pub pool: AnyPool,
    pub dialect: Dialect,
    /// One connection that only probes use: a pool whose connections are all at work is not a lost database.
    probing: AnyPool,
}

impl Dialect {
    /// Of a URL.
    pub fn of(url: &str) -> Result<Dialect, OpenError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(Dialect::Postgres)
        } else if url.starts_with("sqlite:") {
            Ok(Dialect::Sqlite)
        } else {
            Err(OpenError::Scheme)
        }
    }

    /// The clock of the database in milliseconds since 1970: that of a host may be wrong.
    #[must_use]
    pub const fn now_ms(self) -> &'static str {
        match self {
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
            Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// What begins a transaction that will write: whoever comes second waits for the first.
    #[must_use]
    pub const fn begin(self) -> &'static str {
        match self {
            Dialect::Postgres => "BEGIN",
            Dialect::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// What follows a question whose row is to be changed next.
    #[must_use]
    pub const fn for_update(self) -> &'static str {
        match self {
            Dialect::Postgres => " FOR UPDATE",
            Dialect::Sqlite => "",
        }
    }
}

impl Database {
    /// Opens it. A database that is not there yet is asked again, more and more seldom; `waiting` is told why.
    pub async fn open(options: &Options, waiting: impl Fn(&sqlx::Error)) -> Result<Database, OpenError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(&options.url)?;
        let within = options.within;
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(within)
                .after_connect(move |connection, _| {
                    let setting = match dialect {
                        Dialect::Postgres => format!("SET statement_timeout = {}", within.as_millis()),
                        Dialect::Sqlite => format!(
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = {}",
                            within.as_millis()
                        ),
                    };
                    Box::pin(async move { connection.execute(sqlx::AssertSqlSafe(setting)).await.map(drop) })
                })
                .connect_lazy(&options.url)
                .map_err(OpenError::Silent)
        };
        let database = Database { pool: pool(options.connections)?, dialect, probing: pool(1)? };
        let slower = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times()
            .with_total_delay(Some(options.patience));
        (|| database.probe()).retry(slower).notify(|error, _| waiting(error)).await.map_err(OpenError::Silent)?;
        Ok(database)
    }

    /// Asks it for nothing.
    pub async fn probe(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.probing).await.map(drop)
    }
}
