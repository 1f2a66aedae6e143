//! The tables. Changes only add, so that builds on both sides of one work beside each other; whoever comes first makes
//! them, under a lock of the database (failure mode S18). Postgres divides the large tables by epoch.

use std::borrow::Cow;

use children_kit::database::{Database, Dialect};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, Migrator};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use super::{StorageError, sql};

use devshard_core::ids::Epoch;

/// The format that this build reads and writes. `devshard_format.readers_from` names the oldest that may still work.
pub const FORMAT: u32 = 1;

/// The tables that Postgres divides by epoch.
const DIVIDED: [&str; 6] = [
    "devshard_sessions",
    "devshard_diffs",
    "devshard_signatures",
    "devshard_executions",
    "devshard_validation_leases",
    "devshard_mempool",
];
/// Of the lock under which an epoch's tables are made.
const LOCK: i64 = 0x6465_7673_6861_7264;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Makes what is missing. A database that needs newer readers is refused.
pub(super) async fn migrate(database: &Database) -> Result<(), StorageError> {
    let mut migrator = match database.dialect {
        Dialect::Postgres => Migrator::with_migrations(MIGRATIONS.iter().cloned().collect()),
        Dialect::Sqlite => Migrator::with_migrations(MIGRATIONS.iter().map(for_sqlite).collect()),
    };
    // What a newer build has added is of no concern here, unless it says so.
    migrator.set_ignore_missing(true);
    // Without the limit of a question: whoever comes second waits for as long as the first takes.
    let options = database.pool.connect_options().as_ref().clone();
    let pool = AnyPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let migrated = migrator.run(&pool).await.map_err(StorageError::Schema);
    pool.close().await;
    migrated?;
    let row = sqlx::query("SELECT readers_from FROM devshard_format").fetch_one(&database.pool).await;
    let found = super::read_int(&row.map_err(StorageError::Database)?, "readers_from")?;
    if found > u64::from(FORMAT) { Err(StorageError::TooNew { found }) } else { Ok(()) }
}

fn for_sqlite(migration: &Migration) -> Migration {
    let text = migration.sql.as_str().replace(" PARTITION BY RANGE (epoch_id)", "");
    let text = text.replace("BYTEA", "BLOB").replace("SMALLINT", "BIGINT");
    Migration::new(
        migration.version,
        Cow::Owned(migration.description.to_string()),
        migration.migration_type,
        AssertSqlSafe(text).into_sql_str(),
        migration.no_tx,
    )
}

impl super::Storage {
    /// Makes the tables of an epoch, if they are divided and it is new here.
    pub(super) async fn prepare(&self, epoch: Epoch) -> Result<(), StorageError> {
        if self.database.dialect == Dialect::Sqlite || self.epochs.lock().contains(&epoch) {
            return Ok(());
        }
        super::int(epoch.0)?;
        let mut transaction = self.begin().await?;
        let lock = sqlx::query("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)").bind(LOCK);
        lock.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        for table in DIVIDED {
            let statement = format!(
                "CREATE TABLE IF NOT EXISTS {table}_e{epoch} PARTITION OF {table} FOR VALUES FROM ({epoch}) TO ({})",
                epoch.0 + 1
            );
            let making = sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await;
            making.map_err(StorageError::Database)?;
        }
        transaction.commit().await.map_err(StorageError::Database)?;
        self.epochs.lock().insert(epoch);
        Ok(())
    }

    /// Forgets epochs before this one. Returns how many tables or rows went.
    pub async fn prune(&self, keep_from: Epoch) -> Result<u64, StorageError> {
        match self.database.dialect {
            Dialect::Postgres => self.drop_parts(keep_from).await,
            Dialect::Sqlite => self.delete_rows(keep_from).await,
        }
    }

    async fn drop_parts(&self, keep_from: Epoch) -> Result<u64, StorageError> {
        let mut gone = 0;
        for table in DIVIDED {
            let question = sqlx::query(
                "SELECT CAST(c.relname AS TEXT) AS part FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = $1",
            );
            let parts = question.bind(table).fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
            for part in parts {
                let part: String = part.try_get("part").map_err(StorageError::Database)?;
                let epoch = part.strip_prefix(&format!("{table}_e")).and_then(|epoch| epoch.parse::<u64>().ok());
                if epoch.is_some_and(|epoch| epoch < keep_from.0) {
                    let dropping = sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {part}")));
                    dropping.execute(&self.database.pool).await.map_err(StorageError::Database)?;
                    gone += 1;
                }
            }
        }
        self.epochs.lock().retain(|epoch| *epoch >= keep_from);
        self.forget_sessions(keep_from).await?;
        Ok(gone)
    }

    async fn delete_rows(&self, keep_from: Epoch) -> Result<u64, StorageError> {
        let mut gone = 0;
        for table in DIVIDED {
            let deleting = sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE epoch_id < $1")));
            let deleted = deleting.bind(super::int(keep_from.0)?).execute(&self.database.pool).await;
            gone += deleted.map_err(StorageError::Database)?.rows_affected();
        }
        self.forget_sessions(keep_from).await?;
        Ok(gone)
    }

    async fn forget_sessions(&self, keep_from: Epoch) -> Result<(), StorageError> {
        let statement = sql(self.database.dialect, "DELETE FROM devshard_session_index WHERE epoch_id < $1");
        let deleting = sqlx::query(statement).bind(super::int(keep_from.0)?);
        deleting.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }
}
