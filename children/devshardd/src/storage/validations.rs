//! Leases of those who check inferences. The rules are those of `devshard_core::validation`.

use devshard_core::ids::{Epoch, ExecutionKey, InferenceId};
use devshard_core::session::owed::Checked;
use devshard_core::validation::{self, Acquire, Lease, Refused, Status};
use sqlx::{Any, Transaction};

use super::{Session, Storage, StorageError, bind_key, int, read_int, read_text, sql};

/// Why a step of a validation is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Validation {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Storage {
    /// Asks for the check of an inference; `chain` is the epoch that runs.
    pub async fn acquire_validation(
        &self,
        key: &ExecutionKey,
        chain: Epoch,
        ttl_ms: u64,
    ) -> Result<Acquire, StorageError> {
        self.prepare(key.epoch).await?;
        loop {
            let mut transaction = self.begin().await?;
            let (lease, now_ms) = self.lease(&mut transaction, key).await?;
            let acquired = validation::acquire(lease.as_ref(), key.epoch, chain, &self.me, now_ms, ttl_ms);
            let status = match acquired {
                Acquire::Insert | Acquire::TakeOver => Status::Pending { owner: self.me.clone(), since_ms: now_ms },
                Acquire::Skip => Status::Skipped,
                Acquire::Mine | Acquire::Held | Acquire::Done => return Ok(acquired),
            };
            if !self.write_lease(&mut transaction, key, lease.is_some(), &status, now_ms).await? {
                continue;
            }
            transaction.commit().await.map_err(StorageError::Database)?;
            return Ok(acquired);
        }
    }

    /// The result of a check: nobody checks it again, and it is owed from here on.
    pub async fn submit_validation(&self, key: &ExecutionKey, is_valid: bool) -> Result<(), Validation> {
        let mut transaction = self.begin().await?;
        let (lease, now_ms) = self.lease(&mut transaction, key).await?;
        let status = validation::submit(lease.as_ref(), &self.me)?;
        self.write_lease(&mut transaction, key, true, &status, now_ms).await?;
        let saying = sqlx::query(
            "UPDATE devshard_validation_leases SET is_valid = $4 \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3",
        );
        let saying = bind_key(saying, key)?.bind(i64::from(is_valid)).execute(&mut *transaction).await;
        saying.map_err(StorageError::Database)?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(())
    }

    /// Gives a check back, so that another begins at once.
    pub async fn release_validation(&self, key: &ExecutionKey) -> Result<(), Validation> {
        let mut transaction = self.begin().await?;
        let (lease, _) = self.lease(&mut transaction, key).await?;
        validation::release(lease.as_ref(), &self.me)?;
        let deleting = sqlx::query(
            "DELETE FROM devshard_validation_leases WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3",
        );
        bind_key(deleting, key)?.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(())
    }

    /// What was checked of a session, from an inference on, and what came of it.
    pub async fn checked(&self, session: &Session, from: InferenceId) -> Result<Vec<Checked>, StorageError> {
        let question = sqlx::query(
            "SELECT inference_id, is_valid FROM devshard_validation_leases WHERE epoch_id = $1 AND escrow_id = $2 \
             AND inference_id >= $3 AND status = 'submitted' AND is_valid IS NOT NULL ORDER BY inference_id",
        );
        let rows = bind_key(question, &session.key(from))?.fetch_all(&self.database.pool).await;
        let read = |row| {
            let id = InferenceId(read_int(row, "inference_id")?);
            Ok(Checked { id, is_valid: read_int(row, "is_valid")? != 0 })
        };
        rows.map_err(StorageError::Database)?.iter().map(read).collect()
    }

    /// The lease with its row held, and what time it is.
    async fn lease(
        &self,
        transaction: &mut Transaction<'_, Any>,
        key: &ExecutionKey,
    ) -> Result<(Option<Lease>, u64), StorageError> {
        let dialect = self.database.dialect;
        let time = sqlx::query(sql(dialect, "SELECT {now} AS now_ms")).fetch_one(&mut **transaction).await;
        let now_ms = read_int(&time.map_err(StorageError::Database)?, "now_ms")?;
        // One that is being taken over by another is not waited for: whoever is first has it.
        let question = sqlx::query(sql(
            dialect,
            "SELECT instance_address, claimed_at, status FROM devshard_validation_leases \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3{for_update}",
        ));
        let Some(row) =
            bind_key(question, key)?.fetch_optional(&mut **transaction).await.map_err(StorageError::Database)?
        else {
            return Ok((None, now_ms));
        };
        let status = read_text(&row, "status")?;
        let status = match status.as_str() {
            "pending" => {
                let owner = read_text(&row, "instance_address")?;
                let owner =
                    owner.parse().map_err(|_| StorageError::Damaged { what: "instance_address", value: owner })?;
                Status::Pending { owner, since_ms: read_int(&row, "claimed_at")? }
            }
            "submitted" => Status::Submitted,
            "skipped" => Status::Skipped,
            _ => return Err(StorageError::Damaged { what: "status", value: status }),
        };
        Ok((Some(Lease { epoch: key.epoch, status }), now_ms))
    }

    async fn write_lease(
        &self,
        transaction: &mut Transaction<'_, Any>,
        key: &ExecutionKey,
        is_there: bool,
        status: &Status,
        now_ms: u64,
    ) -> Result<bool, StorageError> {
        let (name, since_ms) = match status {
            Status::Pending { since_ms, .. } => ("pending", *since_ms),
            Status::Submitted => ("submitted", now_ms),
            Status::Skipped => ("skipped", now_ms),
        };
        let statement = if is_there {
            "UPDATE devshard_validation_leases SET instance_address = $4, claimed_at = $5, status = $6 \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3"
        } else {
            "INSERT INTO devshard_validation_leases \
             (epoch_id, escrow_id, inference_id, instance_address, claimed_at, status) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
        };
        let writing = bind_key(sqlx::query(sql(self.database.dialect, statement)), key)?
            .bind(self.me.as_str().to_owned())
            .bind(int(since_ms)?)
            .bind(name);
        let written = writing.execute(&mut **transaction).await.map_err(StorageError::Database)?;
        Ok(written.rows_affected() == 1)
    }
}
