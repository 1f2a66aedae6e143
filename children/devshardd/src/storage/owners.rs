//! Who is alive: each process renews a lease for as long as it can reach the database. What a process that is gone has
//! dispatched has an uncertain outcome; what it has only claimed is free.

use std::time::Duration;

use super::{Storage, StorageError, int, sql};

/// How long a lease is believed. It is renewed three times as often.
pub const LEASE: Duration = Duration::from_secs(10);

impl Storage {
    /// Renews the lease of this process, and forgets those that ended long ago.
    pub async fn renew(&self) -> Result<(), StorageError> {
        let lease_ms = int(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX))?;
        let dialect = self.database.dialect;
        let renewing = sqlx::query(sql(
            dialect,
            "INSERT INTO devshard_owners (owner, until_ms) VALUES ($1, {now} + $2) \
             ON CONFLICT (owner) DO UPDATE SET until_ms = excluded.until_ms",
        ));
        let renewed = renewing.bind(self.me.as_str()).bind(lease_ms).execute(&self.database.pool).await;
        renewed.map_err(StorageError::Database)?;
        let forgetting = sqlx::query(sql(dialect, "DELETE FROM devshard_owners WHERE until_ms < {now} - 86400000"));
        forgetting.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }

    /// Ends the lease of this process, which has nothing left to do.
    pub async fn resign(&self) -> Result<(), StorageError> {
        let resigning = sqlx::query("DELETE FROM devshard_owners WHERE owner = $1").bind(self.me.as_str());
        resigning.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }
}
