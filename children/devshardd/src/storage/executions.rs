//! Claims and results (failure modes S01 and S02). The rules are those of `devshard_core::claim`; here a row is held
//! while they are asked.

use devshard_core::claim::{self, Decision, Holder, Refused, Row};
use devshard_core::events::Record;
use devshard_core::ids::{ExecutionKey, Fence, InferenceId, OwnerId};
use devshard_core::session::owed::{Executed, Outcome};
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::{Fault, Session, Storage, StorageError, bind_key, int, read_bytes, read_int, read_text, sql};

/// What came of asking for an inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is this process's to run.
    Taken(Taken),
    /// This one runs it: ask again.
    Wait(OwnerId),
    /// It has been run.
    Done(Record),
    /// It has been begun, and nothing will come of it.
    Uncertain,
}

/// What whoever runs it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub holder: Holder,
    /// When it was claimed for the first time, in seconds since 1970: what its receipt says, however often it is claimed.
    pub confirmed_at: i64,
}

/// A whole result, with what its executor commits to.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    pub record: &'a Record,
    /// `None`: nobody but the model can read it, and nobody is to check the answer.
    pub prompt: Option<&'a [u8]>,
    pub outcome: &'a Outcome,
}

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub prompt: Vec<u8>,
    pub record: Record,
}

/// A step of whoever runs it.
#[derive(Debug, Clone, Copy)]
pub enum Edge<'a> {
    /// The model is about to be called.
    Dispatch,
    /// The whole result is here.
    Complete(Whole<'a>),
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
    /// 0: it has not been claimed.
    confirmed_at: u64,
}

impl Found {
    fn confirmed_at(&self) -> u64 {
        if self.confirmed_at > 0 { self.confirmed_at } else { self.now_ms / 1_000 }
    }
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
                    let confirmed_at = found.confirmed_at();
                    if !self.write(&mut transaction, key, found.row.is_some(), &next, confirmed_at, None).await? {
                        // Another has made the row between our look and our word.
                        continue;
                    }
                    Claimed::Taken(taken(holder, confirmed_at))
                }
                Decision::Wait { owner } => Claimed::Wait(owner),
                Decision::Replay => Claimed::Done(self.result(&mut transaction, key).await?),
                Decision::GiveUp { fence } => {
                    self.write(&mut transaction, key, true, &Row::Uncertain { fence }, found.confirmed_at, None)
                        .await?;
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
            Edge::Complete(whole) => Some(whole),
            Edge::Dispatch | Edge::Abandon | Edge::GiveUp => None,
        };
        let next = match self.fault {
            Fault::None => edge.of(row, holder)?,
            #[cfg(feature = "faults")]
            Fault::NoClaim => edge.unheeding(row, holder)?,
        };
        self.write(&mut transaction, key, true, &next, found.confirmed_at, result).await?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(())
    }

    async fn find(&self, transaction: &mut Transaction<'_, Any>, key: &ExecutionKey) -> Result<Found, StorageError> {
        let question = sqlx::query(sql(
            self.database.dialect,
            "SELECT state, fence, owner, since_ms, confirmed_at, {now} AS now_ms, \
             (SELECT COUNT(*) FROM devshard_owners o WHERE o.owner = e.owner AND o.until_ms > {now}) AS alive \
             FROM devshard_executions e \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3{for_update}",
        ));
        let row = bind_key(question, key)?.fetch_optional(&mut **transaction).await.map_err(StorageError::Database)?;
        match row {
            Some(row) => Ok(Found {
                row: Some(read(&row)?),
                is_alive: read_int(&row, "alive")? > 0,
                now_ms: read_int(&row, "now_ms")?,
                confirmed_at: read_int(&row, "confirmed_at")?,
            }),
            None => {
                let question = sqlx::query(sql(self.database.dialect, "SELECT {now} AS now_ms"));
                let row = question.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
                Ok(Found { row: None, is_alive: false, now_ms: read_int(&row, "now_ms")?, confirmed_at: 0 })
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
        confirmed_at: u64,
        whole: Option<Whole<'_>>,
    ) -> Result<bool, StorageError> {
        let (state, owner, since_ms) = match row {
            Row::Claimed { holder, since_ms } => ("claimed", holder.owner.as_str(), *since_ms),
            Row::Dispatched { holder } => ("dispatched", holder.owner.as_str(), 0),
            Row::Completed { .. } => ("completed", self.me.as_str(), 0),
            Row::Abandoned { .. } => ("abandoned", self.me.as_str(), 0),
            Row::Uncertain { .. } => ("uncertain", self.me.as_str(), 0),
        };
        let statement = if is_there {
            "UPDATE devshard_executions SET state = $4, fence = $5, owner = $6, since_ms = $7, confirmed_at = $8, \
             result = COALESCE($9, result), result_hash = COALESCE($10, result_hash), \
             prompt = COALESCE($11, prompt), response_hash = COALESCE($12, response_hash), \
             input_tokens = COALESCE($13, input_tokens), output_tokens = COALESCE($14, output_tokens) \
             WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3"
        } else {
            // A result follows its claim: what it adds is bound, and nothing yet.
            "INSERT INTO devshard_executions \
             (epoch_id, escrow_id, inference_id, state, fence, owner, since_ms, confirmed_at, result, result_hash, \
             prompt, response_hash, input_tokens, output_tokens) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, COALESCE($13, 0), COALESCE($14, 0)) \
             ON CONFLICT DO NOTHING"
        };
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let writing = bind_key(sqlx::query(sql(self.database.dialect, statement)), key)?
            .bind(state)
            .bind(int(row.fence().0)?)
            .bind(owner.to_owned())
            .bind(int(since_ms)?)
            .bind(int(confirmed_at)?)
            .bind(whole.map(|whole| whole.record.bytes().to_vec()))
            .bind(whole.map(|whole| whole.record.hash().to_vec()))
            .bind(whole.and_then(|whole| whole.prompt).map(<[u8]>::to_vec))
            .bind(whole.map(|whole| whole.outcome.response_hash.to_vec()))
            .bind(whole.map(|whole| tokens(whole.outcome.input_tokens)))
            .bind(whole.map(|whole| tokens(whole.outcome.output_tokens)));
        let written = writing.execute(&mut **transaction).await.map_err(StorageError::Database)?;
        Ok(written.rows_affected() == 1)
    }

    async fn result(&self, transaction: &mut Transaction<'_, Any>, key: &ExecutionKey) -> Result<Record, StorageError> {
        let question = sqlx::query(
            "SELECT result FROM devshard_executions WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3",
        );
        let row = bind_key(question, key)?.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
        Record::read(read_bytes(&row, "result")?).map_err(StorageError::Record)
    }

    /// What this member has begun to execute of a session, of these inferences, both included: what it owes is told by
    /// that.
    pub async fn executed(
        &self,
        session: &Session,
        from: InferenceId,
        to: InferenceId,
    ) -> Result<Vec<Executed>, StorageError> {
        let question = sqlx::query(
            "SELECT inference_id, state, confirmed_at, response_hash, input_tokens, output_tokens \
             FROM devshard_executions WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id >= $3 \
             AND inference_id <= $4 AND confirmed_at > 0 ORDER BY inference_id",
        );
        let question = bind_key(question, &session.key(from))?.bind(int(to.0)?);
        let rows = question.fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
        rows.iter().map(executed).collect()
    }

    /// Whether the result of an inference is stored.
    pub async fn is_completed(&self, key: &ExecutionKey) -> Result<bool, StorageError> {
        let question = sqlx::query(
            "SELECT 1 AS found FROM devshard_executions WHERE epoch_id = $1 AND escrow_id = $2 AND inference_id = $3 \
             AND state = 'completed'",
        );
        let row = bind_key(question, key)?.fetch_optional(&self.database.pool).await.map_err(StorageError::Database)?;
        Ok(row.is_some())
    }

    /// What was asked and answered in an inference, once it is stored, and unless it is sealed.
    pub async fn said(&self, key: &ExecutionKey) -> Result<Option<Said>, StorageError> {
        let question = sqlx::query(
            "SELECT prompt, result FROM devshard_executions WHERE epoch_id = $1 AND escrow_id = $2 \
             AND inference_id = $3 AND state = 'completed' AND prompt IS NOT NULL",
        );
        let row = bind_key(question, key)?.fetch_optional(&self.database.pool).await.map_err(StorageError::Database)?;
        let Some(row) = row else { return Ok(None) };
        let record = Record::read(read_bytes(&row, "result")?).map_err(StorageError::Record)?;
        Ok(Some(Said { prompt: read_bytes(&row, "prompt")?, record }))
    }
}

fn taken(holder: Holder, confirmed_at: u64) -> Taken {
    Taken { holder, confirmed_at: i64::try_from(confirmed_at).unwrap_or(i64::MAX) }
}

fn executed(row: &AnyRow) -> Result<Executed, StorageError> {
    let hash: Option<Vec<u8>> = sqlx::Row::try_get(row, "response_hash").map_err(StorageError::Database)?;
    let outcome = match hash {
        Some(hash) if read_text(row, "state")? == "completed" => Some(Outcome {
            response_hash: hash.try_into().map_err(|hash: Vec<u8>| StorageError::Damaged {
                what: "response_hash",
                value: format!("{} bytes", hash.len()),
            })?,
            input_tokens: read_int(row, "input_tokens")?,
            output_tokens: read_int(row, "output_tokens")?,
        }),
        Some(_) | None => None,
    };
    Ok(Executed {
        id: InferenceId(read_int(row, "inference_id")?),
        confirmed_at: i64::try_from(read_int(row, "confirmed_at")?).unwrap_or(i64::MAX),
        outcome,
    })
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
        let confirmed_at = found.confirmed_at();
        self.write(&mut transaction, key, found.row.is_some(), &next, confirmed_at, None).await?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(Claimed::Taken(taken(holder, confirmed_at)))
    }
}
