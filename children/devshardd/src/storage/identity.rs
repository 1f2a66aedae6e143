//! Whether two processes use the same database (failure mode S17). A name that is stored in it proves nothing: a clone
//! has it too. What one process has just written there, the other must read.

use super::{Storage, StorageError, read_text};

impl Storage {
    /// The name of the database, made when it is first asked for. A clone has the same.
    pub async fn uuid(&self) -> Result<String, StorageError> {
        let naming =
            sqlx::query("INSERT INTO devshard_storage_identity (id, uuid) VALUES (1, $1) ON CONFLICT (id) DO NOTHING");
        let named = naming.bind(uuid::Uuid::new_v4().to_string()).execute(&self.database.pool).await;
        named.map_err(StorageError::Database)?;
        let question = sqlx::query("SELECT uuid FROM devshard_storage_identity WHERE id = 1");
        let row = question.fetch_one(&self.database.pool).await.map_err(StorageError::Database)?;
        read_text(&row, "uuid")
    }

    /// Writes a mark beside the lease of this process.
    pub async fn mark(&self, mark: &str) -> Result<(), StorageError> {
        let marking = sqlx::query("UPDATE devshard_owners SET mark = $2 WHERE owner = $1");
        let marked = marking.bind(self.me.as_str().to_owned()).bind(mark.to_owned());
        marked.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }

    /// The mark of a process, if it is known here at all.
    pub async fn mark_of(&self, owner: &str) -> Result<Option<String>, StorageError> {
        let question = sqlx::query("SELECT mark FROM devshard_owners WHERE owner = $1").bind(owner.to_owned());
        let row = question.fetch_optional(&self.database.pool).await.map_err(StorageError::Database)?;
        row.map(|row| read_text(&row, "mark")).transpose()
    }
}
