//! Sessions and their steps (failure mode S03). A session belongs to one epoch and one version of this program, and is
//! bound to its terms when it begins.

use devshard_core::auth::Address;
use devshard_core::diffs::{self, Diff};
use devshard_core::ids::{Epoch, EscrowId, ExecutionKey, InferenceId, Nonce};
use devshard_core::session::Binding;
use devshard_core::session::plan::Step;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::signatures::Signature;
use super::{AppendError, Storage, StorageError, int, read_bytes, read_int, read_text, sql};

/// Diffs that are read at once, at most.
pub const PAGE: usize = 1_000;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub epoch: Epoch,
    /// Of this program.
    pub version: String,
    pub binding: Binding,
    /// The last step that is stored.
    pub latest: Nonce,
}

/// What came of appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    Stored,
    /// Another has appended meanwhile: nothing was stored, and this is the last step now.
    Moved(Nonce),
}

impl Session {
    #[must_use]
    pub const fn escrow(&self) -> &EscrowId {
        &self.binding.escrow
    }

    /// One of its inferences.
    #[must_use]
    pub fn key(&self, inference: InferenceId) -> ExecutionKey {
        ExecutionKey { epoch: self.epoch, escrow: self.escrow().clone(), inference }
    }
}

impl Storage {
    /// The session of an escrow, if it has begun.
    pub async fn session(&self, escrow: &EscrowId) -> Result<Option<Session>, StorageError> {
        let question = sqlx::query(
            "SELECT s.epoch_id, s.version, s.creator_addr, s.config_json, s.group_json, s.initial_balance, \
             s.latest_nonce FROM devshard_session_index i \
             JOIN devshard_sessions s ON s.epoch_id = i.epoch_id AND s.escrow_id = i.escrow_id \
             WHERE i.escrow_id = $1",
        );
        let row = question.bind(escrow.as_str()).fetch_optional(&self.database.pool).await;
        row.map_err(StorageError::Database)?.map(|row| session(escrow, &row)).transpose()
    }

    /// Begins a session, unless it has begun: then it stays what it is.
    pub async fn bind(&self, epoch: Epoch, version: &str, binding: &Binding) -> Result<Session, StorageError> {
        self.prepare(epoch).await?;
        let escrow = &binding.escrow;
        let mut transaction = self.begin().await?;
        let indexing = sqlx::query(
            "INSERT INTO devshard_session_index (escrow_id, epoch_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        );
        let indexing = indexing.bind(escrow.as_str().to_owned()).bind(int(epoch.0)?);
        let is_new = indexing.execute(&mut *transaction).await.map_err(StorageError::Database)?.rows_affected() == 1;
        if is_new {
            let beginning = sqlx::query(
                "INSERT INTO devshard_sessions \
                 (epoch_id, escrow_id, version, creator_addr, config_json, group_json, initial_balance) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            );
            let beginning = beginning
                .bind(int(epoch.0)?)
                .bind(escrow.as_str().to_owned())
                .bind(version.to_owned())
                .bind(binding.creator.as_str().to_owned())
                .bind(written(&binding.terms)?)
                .bind(written(&binding.group)?)
                .bind(int(binding.amount)?);
            beginning.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        }
        transaction.commit().await.map_err(StorageError::Database)?;
        let session = self.session(escrow).await?;
        session.ok_or_else(|| StorageError::Damaged { what: "session without its row", value: escrow.to_string() })
    }

    /// Appends steps behind step `latest`, with this host's signatures of the state behind them, if that is still the
    /// last one; what `known` has must be stored already. All of it, or nothing.
    pub async fn append(
        &self,
        session: &Session,
        latest: Nonce,
        known: &[Diff],
        steps: &[Step<'_>],
        signatures: &[Signature],
    ) -> Result<Appended, AppendError> {
        // Before anything is held: a question within a transaction would need a second connection, and all of them may be
        // taken by those who wait for the same.
        self.compare(session, known).await?;
        let Some(last) = steps.last() else { return Ok(Appended::Stored) };
        let mut transaction = self.begin().await?;
        let stored = self.hold_latest(&mut transaction, session).await?;
        if stored != latest {
            return Ok(Appended::Moved(stored));
        }
        for step in steps {
            self.insert(&mut transaction, session, step).await?;
        }
        self.insert_signatures(&mut transaction, session, signatures).await?;
        let statement = "UPDATE devshard_sessions SET latest_nonce = $3 WHERE epoch_id = $1 AND escrow_id = $2";
        let advancing = sqlx::query(statement)
            .bind(int(session.epoch.0)?)
            .bind(session.escrow().as_str().to_owned())
            .bind(int(last.diff.nonce.0)?);
        advancing.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(Appended::Stored)
    }

    /// The diffs of a session between these nonces, both included, each with the state behind it: the first page.
    pub async fn diffs(&self, session: &Session, from: Nonce, to: Nonce) -> Result<Vec<(Diff, Vec<u8>)>, StorageError> {
        let question = sqlx::query(
            "SELECT nonce, txs_proto, user_sig, post_state_root, state_hash FROM devshard_diffs \
             WHERE epoch_id = $1 AND escrow_id = $2 AND nonce BETWEEN $3 AND $4 ORDER BY nonce LIMIT $5",
        );
        let question = question
            .bind(int(session.epoch.0)?)
            .bind(session.escrow().as_str().to_owned())
            .bind(int(from.0)?)
            .bind(i64::try_from(to.0).unwrap_or(i64::MAX))
            .bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
        let rows = question.fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
        rows.iter().map(|row| Ok((diff(row)?, read_bytes(row, "state_hash")?))).collect()
    }

    /// Whether these are what is stored for their nonces. What is stored is never changed, so that nothing is held.
    async fn compare(&self, session: &Session, known: &[Diff]) -> Result<(), AppendError> {
        for page in known.chunks(PAGE) {
            let (Some(first), Some(last)) = (page.first(), page.last()) else { continue };
            let stored = self.diffs(session, first.nonce, last.nonce).await?;
            for diff in page {
                match stored.iter().find(|(stored, _)| stored.nonce == diff.nonce) {
                    Some((stored, _)) => diffs::compare(stored, diff)?,
                    // The page of what is stored has ended: those that were asked for have gaps between them.
                    None => {
                        let stored = self.diffs(session, diff.nonce, diff.nonce).await?;
                        let damaged = || StorageError::Damaged { what: "missing diff", value: diff.nonce.to_string() };
                        diffs::compare(&stored.first().ok_or_else(damaged)?.0, diff)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The last step that is stored. Its session's row is held: steps of one session are appended one after the other.
    async fn hold_latest(
        &self,
        transaction: &mut Transaction<'_, Any>,
        session: &Session,
    ) -> Result<Nonce, StorageError> {
        let holding = sqlx::query(sql(
            self.database.dialect,
            "SELECT latest_nonce FROM devshard_sessions WHERE epoch_id = $1 AND escrow_id = $2{for_update}",
        ));
        let holding = holding.bind(int(session.epoch.0)?).bind(session.escrow().as_str().to_owned());
        let row = holding.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
        Ok(Nonce(read_int(&row, "latest_nonce")?))
    }

    async fn insert(
        &self,
        transaction: &mut Transaction<'_, Any>,
        session: &Session,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        let inserting = sqlx::query(
            "INSERT INTO devshard_diffs \
             (epoch_id, escrow_id, nonce, txs_proto, user_sig, post_state_root, state_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let inserting = inserting
            .bind(int(session.epoch.0)?)
            .bind(session.escrow().as_str().to_owned())
            .bind(int(step.diff.nonce.0)?)
            .bind(step.diff.txs.clone())
            .bind(step.diff.user_sig.clone())
            .bind(step.diff.post_state_root.clone())
            .bind(step.root.to_vec());
        inserting.execute(&mut **transaction).await.map(drop).map_err(StorageError::Database)
    }
}

impl AppendError {
    /// Whether two histories were told for one session: it must never happen.
    #[must_use]
    pub const fn is_fork(&self) -> bool {
        match self {
            AppendError::Fork(_) => true,
            AppendError::Storage(_) => false,
        }
    }
}

fn written(value: &impl serde::Serialize) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(StorageError::Binding)
}

fn session(escrow: &EscrowId, row: &AnyRow) -> Result<Session, StorageError> {
    Ok(Session {
        epoch: Epoch(read_int(row, "epoch_id")?),
        version: read_text(row, "version")?,
        binding: Binding {
            escrow: escrow.clone(),
            creator: Address::stored(read_text(row, "creator_addr")?),
            amount: read_int(row, "initial_balance")?,
            terms: serde_json::from_str(&read_text(row, "config_json")?).map_err(StorageError::Binding)?,
            group: serde_json::from_str(&read_text(row, "group_json")?).map_err(StorageError::Binding)?,
        },
        latest: Nonce(read_int(row, "latest_nonce")?),
    })
}

fn diff(row: &AnyRow) -> Result<Diff, StorageError> {
    Ok(Diff {
        nonce: Nonce(read_int(row, "nonce")?),
        txs: read_bytes(row, "txs_proto")?,
        user_sig: read_bytes(row, "user_sig")?,
        post_state_root: read_bytes(row, "post_state_root")?,
    })
}
