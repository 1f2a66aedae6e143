//! Claims and results (failure modes S01 and S02). The rules are those of `devshard_core::claim`; here a row is held
//! while they are asked.

use devshard_core::claim::{self, Decision, Holder, Refused, Row};
use devshard_core::events::Record;
use devshard_core::ids::{ExecutionKey, Fence, OwnerId};
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::{Fault, Storage, StorageError, int, read_bytes, read_int, read_text, sql};

/// What came of asking for an inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is this process's to run.
    Taken(Holder),
    /// This one runs it: ask again.
    Wait(OwnerId),
    /// It has been run.
    Done(Record),
    /// It has been begun, and nothing will come of it.
    Uncertain,
}

/// A step of whoever runs it.
#[derive(Debug, Clone, Copy)]
pub enum Edge<'a> {
    /// The model is about to be called.
    Dispatch,
    /// The whole result is here.
    Complete(&'a Record),
    /// It is certain that the model has not run.
    Abandon,
    /// The model has been called, and gave no whole answer.
    GiveUp,
}

/// Why a step is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A row as it was found, with what decides beside it.
struct Found {
    row: Option<Row>,
    is_alive: bool,
    now_ms: u64,
}

impl Edge<'_> {
    /// Where it leads.
    fn of(self, row: Option<&Row>, holder: &Holder) -> Result<Row, Refused> {
        match self {
            Edge::Dispatch => claim::dispatch(row, holder),
            Edge::Complete(_) => claim::complete(row, holder),
            Edge::Abandon => claim::abandon(row, holder),
            Edge::GiveUp => claim::give_up(row, holder),
        }
    }

    /// The sabotage: it leads there from everywhere, save from a result.
    #[cfg(feature = "faults")]
    fn unheeding(self, row: Option<&Row>, holder: &Holder) -> Result<Row, Refused> {
        match (self, row) {
            (_, Some(Row::Completed { .. })) => Err(Refused::AlreadyCompleted),
            (Edge::Dispatch, _) => Ok(Row::Dispatched { holder: holder.clone() }),
            (Edge::Complete(_), _) => Ok(Row::Completed { fence: holder.fence }),
            (Edge::Abandon, _) => Ok(Row::Abandoned { fence: holder.fence }),
            (Edge::GiveUp, _) => Ok(Row::Uncertain { fence: holder.fence }),
        }
    }
}

impl Storage {
    /// Asks for an inference that does not run here, and takes it if it is free.
    pub async fn claim(&self, key: &ExecutionKey) -> Result<Claimed, StorageError> {
        self.prepare(key.epoch).await?;
        match self.fault {
            Fault::None => {}
            #[cfg(feature = "faults")]
            Fault::NoClaim => return self.claim_unheeding(key).await,
        }
        loop {
            let mut transaction = self.begin().await?;
            let found = self.find(&mut transaction, key).await?;
            let claimed = match claim::decide(found.row.as_ref(), found.is_alive, &self.me, found.now_ms) {
                Decision::Take { fence } => {
                    let holder = Holder { owner: self.me.clone(), fence };
                    let next = Row::Claimed { holder: holder.clone(), since_ms: found.now_ms };
                    if !self.write(&mut transaction, key, found.row.is_some(), &next, None).await? {
                        // Another has made the row between our look and our word.
                        continue;
                    }
                    Claimed::Taken(holder)
                }
                Decision::Wait { owner } => Claimed::Wait(owner),
                Decision::Replay => Claimed::Done(self.result(&mut transaction, key).await?),
                Decision::GiveUp { fence } => {
                    self.write(&mut transaction, key, true, &Row::Uncertain { fence }, None).await?;
                    Claimed::Uncertain
                }
                Decision::GivenUp => Claimed::Uncertain,
            };
            transaction.commit().await.map_err(StorageError::Database)?;
            return Ok(claimed);
        }
    }

    /// Takes a step of an inference that this process runs.
    pub async fn step(&self, key: &ExecutionKey, holder: &Holder, edge: Edge<'_>) -> Result<(), NotTaken> {
        let mut transaction = self.begin().await?;
        let found = self.find(&mut transaction, key).await?;
        let row = found.row.as_ref();
        let result = match edge {
            Edge::Complete(record) => Some(record),
            Edge::Dispatch | Edge::Abandon | Edge::GiveUp => None,
        };
        let next = match self.fault {
            Fault::None => edge.of(row, holder)?,
            #[cfg(feature = "faults")]
            Fault::NoClaim => edge.unheeding(row, holder)?,
        };
        self.write(&mut transaction, key, true, &next, result).await?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(())
    }

    async fn find(&self, transaction: &mut Transaction<'_, Any>, key: &ExecutionKey) -> Result<Found, StorageError> {
        let question = sqlx::query(sql(
            self.database.dialect,
            "SELECT state, fence, owner, since_ms, {now} AS now_ms, \
             (SELECT COUNT(*) FROM devshard_owners o WHERE o.owner = e.owner AND o.until_ms > {now}) AS alive \
             FROM devshard_executions e \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3{for_update}",
        ));
        let question =
            question.bind(int(key.epoch.0)?).bind(key.escrow.as_str().to_owned()).bind(int(key.inference.0)?);
        let row = question.fetch_optional(&mut **transaction).await.map_err(StorageError::Database)?;
        match row {
            Some(row) => Ok(Found {
                row: Some(read(&row)?),
                is_alive: read_int(&row, "alive")? > 0,
                now_ms: read_int(&row, "now_ms")?,
            }),
            None => {
                let question = sqlx::query(sql(self.database.dialect, "SELECT {now} AS now_ms"));
                let row = question.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
                Ok(Found { row: None, is_alive: false, now_ms: read_int(&row, "now_ms")? })
            }
        }
    }

    /// Writes a row; `false`: it was to be new, and is not.
    async fn write(
        &self,
        transaction: &mut Transaction<'_, Any>,
        key: &ExecutionKey,
        is_there: bool,
        row: &Row,
        result: Option<&Record>,
    ) -> Result<bool, StorageError> {
        let (state, owner, since_ms) = match row {
            Row::Claimed { holder, since_ms } => ("claimed", holder.owner.as_str(), *since_ms),
            Row::Dispatched { holder } => ("dispatched", holder.owner.as_str(), 0),
            Row::Completed { .. } => ("completed", self.me.as_str(), 0),
            Row::Abandoned { .. } => ("abandoned", self.me.as_str(), 0),
            Row::Uncertain { .. } => ("uncertain", self.me.as_str(), 0),
        };
        let statement = if is_there {
            "UPDATE devshard_executions SET state = $4, fence = $5, owner = $6, since_ms = $7, \
             result = COALESCE($8, result), result_hash = COALESCE($9, result_hash) \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3"
        } else {
            "INSERT INTO devshard_executions \
             (epoch_id, escrow_id, inference_id, state, fence, owner, since_ms, result, result_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
        };
        let writing = sqlx::query(sql(self.database.dialect, statement))
            .bind(int(key.epoch.0)?)
            .bind(key.escrow.as_str().to_owned())
            .bind(int(key.inference.0)?)
            .bind(state)
            .bind(int(row.fence().0)?)
            .bind(owner.to_owned())
            .bind(int(since_ms)?)
            .bind(result.map(|record| record.bytes().to_vec()))
            .bind(result.map(|record| record.hash().to_vec()));
        let written = writing.execute(&mut **transaction).await.map_err(StorageError::Database)?;
        Ok(written.rows_affected() == 1)
    }

    async fn result(&self, transaction: &mut Transaction<'_, Any>, key: &ExecutionKey) -> Result<Record, StorageError> {
        let question = sqlx::query(
            "SELECT result FROM devshard_executions WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3",
        );
        let question =
            question.bind(int(key.epoch.0)?).bind(key.escrow.as_str().to_owned()).bind(int(key.inference.0)?);
        let row = question.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
        Record::read(read_bytes(&row, "result")?).map_err(StorageError::Record)
    }
}

fn read(row: &AnyRow) -> Result<Row, StorageError> {
    let fence = Fence(read_int(row, "fence")?);
    let holder = || {
        let owner = read_text(row, "owner")?;
        let owner = owner.parse().map_err(|_| StorageError::Damaged { what: "owner", value: owner })?;
        Ok(Holder { owner, fence })
    };
    let state = read_text(row, "state")?;
    match state.as_str() {
        "claimed" => Ok(Row::Claimed { holder: holder()?, since_ms: read_int(row, "since_ms")? }),
        "dispatched" => Ok(Row::Dispatched { holder: holder()? }),
        "completed" => Ok(Row::Completed { fence }),
        "abandoned" => Ok(Row::Abandoned { fence }),
        "uncertain" => Ok(Row::Uncertain { fence }),
        _ => Err(StorageError::Damaged { what: "state", value: state }),
    }
}

#[cfg(feature = "faults")]
impl Storage {
    /// The sabotage: whatever the row says, the inference is this process's to run.
    async fn claim_unheeding(&self, key: &ExecutionKey) -> Result<Claimed, StorageError> {
        let mut transaction = self.begin().await?;
        let found = self.find(&mut transaction, key).await?;
        if let Some(Row::Completed { .. }) = found.row {
            return Ok(Claimed::Done(self.result(&mut transaction, key).await?));
        }
        let fence = Fence(found.row.as_ref().map_or(1, |row| row.fence().0 + 1));
        let holder = Holder { owner: self.me.clone(), fence };
        let next = Row::Claimed { holder: holder.clone(), since_ms: found.now_ms };
        self.write(&mut transaction, key, found.row.is_some(), &next, None).await?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(Claimed::Taken(holder))
    }
}
