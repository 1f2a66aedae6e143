//! Leases of those who check inferences. The rules are those of `devshard_core::validation`.

use devshard_core::ids::{Epoch, ExecutionKey};
use devshard_core::validation::{self, Acquire, Lease, Refused, Status};
use sqlx::{Any, Transaction};

use super::{Storage, StorageError, int, read_int, read_text, sql};

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

    /// The result of a check is on its way: nobody checks it again.
    pub async fn submit_validation(&self, key: &ExecutionKey) -> Result<(), Validation> {
        let mut transaction = self.begin().await?;
        let (lease, now_ms) = self.lease(&mut transaction, key).await?;
        let status = validation::submit(lease.as_ref(), &self.me)?;
        self.write_lease(&mut transaction, key, true, &status, now_ms).await?;
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
        let deleting =
            deleting.bind(int(key.epoch.0)?).bind(key.escrow.as_str().to_owned()).bind(int(key.inference.0)?);
        deleting.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(())
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
        let question =
            question.bind(int(key.epoch.0)?).bind(key.escrow.as_str().to_owned()).bind(int(key.inference.0)?);
        let Some(row) = question.fetch_optional(&mut **transaction).await.map_err(StorageError::Database)? else {
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
        let writing = sqlx::query(sql(self.database.dialect, statement))
            .bind(int(key.epoch.0)?)
            .bind(key.escrow.as_str().to_owned())
            .bind(int(key.inference.0)?)
            .bind(self.me.as_str().to_owned())
            .bind(int(since_ms)?)
            .bind(name);
        let written = writing.execute(&mut **transaction).await.map_err(StorageError::Database)?;
        Ok(written.rows_affected() == 1)
    }
}
