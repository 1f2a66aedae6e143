//! The place of record: sessions and their steps, executions and their results, what members have signed and said,
//! leases of checks, who is alive.
//!
//! One set of statements for both databases (`sqlite:` for one host alone, `postgres:` for any number); what differs
//! is in [`Dialect`]. Each question that is followed by a change holds its row in one transaction, decides by
//! `devshard-core`, and takes the time from the database.
//!
//! Must not live here: what a client or an engine is told.

mod executions;
mod identity;
mod owners;
mod schema;
mod sessions;
mod signatures;
mod validations;

use std::collections::BTreeSet;
use std::sync::Arc;

use children_kit::database::{Database, Dialect, OpenError, Options};
use parking_lot::Mutex;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use devshard_core::diffs::Fork;
use devshard_core::events::EventError;
use devshard_core::ids::{Epoch, ExecutionKey, OwnerId};

pub use executions::{Claimed, Edge, NotTaken, Said, Taken, Whole};
pub use owners::LEASE;
pub use schema::FORMAT;
pub use sessions::{Appended, PAGE, Session};
pub use signatures::Signature;
pub use validations::Validation;

/// Why nothing came of a question.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the database cannot be opened")]
    Open(#[source] OpenError),
    #[error("the database is of format {found} at least, and this build reads {FORMAT}")]
    TooNew { found: u64 },
    #[error("the tables cannot be made")]
    Schema(#[source] sqlx::migrate::MigrateError),
    #[error("the database does not do what it is asked")]
    Database(#[source] sqlx::Error),
    #[error("{0} is more than the database can hold")]
    OutOfRange(u64),
    #[error("{what} in the database: {value}")]
    Damaged { what: &'static str, value: String },
    #[error("a stored result cannot be read")]
    Record(#[source] EventError),
    #[error("the terms of a session cannot be read or written")]
    Binding(#[source] serde_json::Error),
}

/// Why diffs are not stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Fork(#[from] Fork),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Nobody heeds a claim.
    #[cfg(feature = "faults")]
    NoClaim,
}

/// The place of record, as one process sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    database: Database,
    me: OwnerId,
    fault: Fault,
    /// Epochs whose tables are known to be there.
    epochs: Arc<Mutex<BTreeSet<Epoch>>>,
}

impl Storage {
    /// Opens it, and makes what is missing of its tables; `waiting` is told why that takes time.
    pub async fn open(
        options: &Options,
        me: OwnerId,
        fault: Fault,
        waiting: impl Fn(&sqlx::Error),
    ) -> Result<Storage, StorageError> {
        let database = Database::open(options, waiting).await.map_err(StorageError::Open)?;
        schema::migrate(&database).await?;
        Ok(Storage { database, me, fault, epochs: Arc::default() })
    }

    /// Who this process is.
    #[must_use]
    pub const fn me(&self) -> &OwnerId {
        &self.me
    }

    /// Whether more than one process may use it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match self.database.dialect {
            Dialect::Postgres => true,
            Dialect::Sqlite => false,
        }
    }

    /// Whether it answers.
    pub async fn probe(&self) -> Result<(), StorageError> {
        self.database.probe().await.map_err(StorageError::Database)
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StorageError> {
        self.database.pool.begin_with(self.database.dialect.begin()).await.map_err(StorageError::Database)
    }
}

/// A statement of this build, with what the dialect puts into it. Values are bound, never written into it.
fn sql(dialect: Dialect, statement: &str) -> SqlStr {
    let text = statement.replace("{now}", dialect.now_ms()).replace("{for_update}", dialect.for_update());
    AssertSqlSafe(text).into_sql_str()
}

/// A question, with the values bound that it has so far.
type Question<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// Binds the first three values of a statement that is about one inference.
fn bind_key<'q>(question: Question<'q>, key: &ExecutionKey) -> Result<Question<'q>, StorageError> {
    Ok(question.bind(int(key.epoch.0)?).bind(key.escrow.as_str().to_owned()).bind(int(key.inference.0)?))
}

/// As the database holds it.
fn int(value: u64) -> Result<i64, StorageError> {
    i64::try_from(value).map_err(|_| StorageError::OutOfRange(value))
}

fn read_int(row: &AnyRow, column: &'static str) -> Result<u64, StorageError> {
    let value: i64 = row.try_get(column).map_err(StorageError::Database)?;
    u64::try_from(value).map_err(|_| StorageError::Damaged { what: column, value: value.to_string() })
}

fn read_text(row: &AnyRow, column: &'static str) -> Result<String, StorageError> {
    row.try_get(column).map_err(StorageError::Database)
}

fn read_bytes(row: &AnyRow, column: &'static str) -> Result<Vec<u8>, StorageError> {
    row.try_get(column).map_err(StorageError::Database)
}
