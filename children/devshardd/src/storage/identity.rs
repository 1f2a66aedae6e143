//! Whether two processes use the same database (failure mode S17). A name that is stored in it proves nothing: a clone
//! has it too. What one process has just written there, the other must read.

use sqlx::Row as _;

use super::{Storage, StorageError};

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Made when the tables were; a clone has the same.
    pub uuid: String,
    /// What was written last.
    pub challenge: String,
}

impl Storage {
    /// Reads it.
    pub async fn identity(&self) -> Result<Identity, StorageError> {
        let naming = sqlx::query(
            "INSERT INTO devshard_storage_identity (id, uuid) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
        );
        let named = naming.bind(uuid::Uuid::new_v4().to_string()).execute(&self.database.pool).await;
        named.map_err(StorageError::Database)?;
        let question = sqlx::query("SELECT uuid, challenge FROM devshard_storage_identity WHERE id = 1");
        let row = question.fetch_one(&self.database.pool).await.map_err(StorageError::Database)?;
        Ok(Identity {
            uuid: row.try_get("uuid").map_err(StorageError::Database)?,
            challenge: row.try_get("challenge").map_err(StorageError::Database)?,
        })
    }

    /// Writes what others must read.
    pub async fn challenge(&self, challenge: &str) -> Result<(), StorageError> {
        self.identity().await?;
        let writing = sqlx::query("UPDATE devshard_storage_identity SET challenge = $1 WHERE id = 1").bind(challenge);
        writing.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }
}
