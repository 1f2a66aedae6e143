//! Sessions and their diffs (failure mode S03). A session belongs to one epoch, one creator and one version of this
//! program.

use devshard_core::auth::Address;
use devshard_core::diffs::{self, Diff, DiffError, Head, Plan};
use devshard_core::ids::{Epoch, EscrowId, Nonce};
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::{AppendError, Storage, StorageError, int, read_bytes, read_int, read_text, sql};

/// Diffs that are read at once, at most.
const PAGE: i64 = 1_000;

/// What a session is bound to when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub epoch: Epoch,
    pub version: String,
    pub creator: Address,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub escrow: EscrowId,
    pub binding: Binding,
    pub latest: Nonce,
}

impl Storage {
    /// The session of an escrow, if it has begun.
    pub async fn session(&self, escrow: &EscrowId) -> Result<Option<Session>, StorageError> {
        let question = sqlx::query(
            "SELECT s.epoch_id, s.version, s.creator_addr, s.latest_nonce FROM devshard_session_index i \
             JOIN devshard_sessions s ON s.epoch_id = i.epoch_id AND s.escrow_id = i.escrow_id \
             WHERE i.escrow_id = $1",
        );
        let row = question.bind(escrow.as_str()).fetch_optional(&self.database.pool).await;
        row.map_err(StorageError::Database)?.map(|row| session(escrow, &row)).transpose()
    }

    /// Begins a session, unless it has begun: then it stays what it is.
    pub async fn bind(&self, escrow: &EscrowId, binding: &Binding) -> Result<Session, StorageError> {
        self.prepare(binding.epoch).await?;
        let mut transaction = self.begin().await?;
        let indexing = sqlx::query(
            "INSERT INTO devshard_session_index (escrow_id, epoch_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        );
        let indexing = indexing.bind(escrow.as_str().to_owned()).bind(int(binding.epoch.0)?);
        let is_new = indexing.execute(&mut *transaction).await.map_err(StorageError::Database)?.rows_affected() == 1;
        if is_new {
            let beginning = sqlx::query(
                "INSERT INTO devshard_sessions (epoch_id, escrow_id, version, creator_addr) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT DO NOTHING",
            );
            let beginning = beginning
                .bind(int(binding.epoch.0)?)
                .bind(escrow.as_str().to_owned())
                .bind(binding.version.clone())
                .bind(binding.creator.as_str().to_owned());
            beginning.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        }
        transaction.commit().await.map_err(StorageError::Database)?;
        let session = self.session(escrow).await?;
        session.ok_or_else(|| StorageError::Damaged { what: "session without its row", value: escrow.to_string() })
    }

    /// Appends diffs in order: those that are stored the same are passed over. All of them, or none.
    pub async fn append(&self, session: &Session, diffs: &[Diff]) -> Result<Head, AppendError> {
        let mut transaction = self.begin().await?;
        let mut head = self.head(&mut transaction, session).await?;
        for diff in diffs {
            let plan = match diffs::plan(head, diff)? {
                Plan::Compare => {
                    let stored = self.diff(&mut transaction, session, diff.nonce).await?;
                    diffs::compare(&stored, diff)?
                }
                plan @ (Plan::Already | Plan::Append(_)) => plan,
            };
            if let Plan::Append(planned) = plan {
                self.insert(&mut transaction, session, planned.diff(), &planned.state_hash()).await?;
                head = planned.stored();
            }
        }
        let statement = "UPDATE devshard_sessions SET latest_nonce = $3 WHERE epoch_id = $1 AND escrow_id = $2";
        let advancing = sqlx::query(statement)
            .bind(int(session.binding.epoch.0)?)
            .bind(session.escrow.as_str().to_owned())
            .bind(int(head.nonce.0)?);
        advancing.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        transaction.commit().await.map_err(StorageError::Database)?;
        Ok(head)
    }

    /// The diffs of a session between these nonces, both included: the first page of them.
    pub async fn diffs(&self, session: &Session, from: Nonce, to: Nonce) -> Result<Vec<(Diff, Vec<u8>)>, StorageError> {
        let question = sqlx::query(
            "SELECT nonce, txs_proto, user_sig, post_state_root, state_hash FROM devshard_diffs \
             WHERE epoch_id = $1 AND escrow_id = $2 AND nonce BETWEEN $3 AND $4 ORDER BY nonce LIMIT $5",
        );
        let question = question
            .bind(int(session.binding.epoch.0)?)
            .bind(session.escrow.as_str().to_owned())
            .bind(int(from.0)?)
            .bind(int(to.0)?)
            .bind(PAGE);
        let rows = question.fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
        rows.iter().map(|row| Ok((diff(row)?, read_bytes(row, "state_hash")?))).collect()
    }

    /// Where the history ends. Its session's row is held: diffs of one session are appended one after the other.
    async fn head(&self, transaction: &mut Transaction<'_, Any>, session: &Session) -> Result<Head, StorageError> {
        let holding = sqlx::query(sql(
            self.database.dialect,
            "SELECT latest_nonce FROM devshard_sessions WHERE epoch_id = $1 AND escrow_id = $2{for_update}",
        ));
        let holding = holding.bind(int(session.binding.epoch.0)?).bind(session.escrow.as_str().to_owned());
        holding.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?;
        let question = sqlx::query(
            "SELECT nonce, state_hash FROM devshard_diffs WHERE epoch_id = $1 AND escrow_id = $2 \
             ORDER BY nonce DESC LIMIT 1",
        );
        let question = question.bind(int(session.binding.epoch.0)?).bind(session.escrow.as_str().to_owned());
        let Some(row) = question.fetch_optional(&mut **transaction).await.map_err(StorageError::Database)? else {
            return Ok(Head::START);
        };
        let hash = read_bytes(&row, "state_hash")?;
        let length = hash.len();
        let state_hash = hash
            .try_into()
            .map_err(|_| StorageError::Damaged { what: "state_hash", value: format!("{length} bytes") })?;
        Ok(Head { nonce: Nonce(read_int(&row, "nonce")?), state_hash })
    }

    async fn diff(
        &self,
        transaction: &mut Transaction<'_, Any>,
        session: &Session,
        nonce: Nonce,
    ) -> Result<Diff, StorageError> {
        let question = sqlx::query(
            "SELECT nonce, txs_proto, user_sig, post_state_root FROM devshard_diffs \
             WHERE epoch_id = $1 AND escrow_id = $2 AND nonce = $3",
        );
        let question =
            question.bind(int(session.binding.epoch.0)?).bind(session.escrow.as_str().to_owned()).bind(int(nonce.0)?);
        diff(&question.fetch_one(&mut **transaction).await.map_err(StorageError::Database)?)
    }

    async fn insert(
        &self,
        transaction: &mut Transaction<'_, Any>,
        session: &Session,
        diff: &Diff,
        state_hash: &[u8; 32],
    ) -> Result<(), StorageError> {
        let inserting = sqlx::query(
            "INSERT INTO devshard_diffs \
             (epoch_id, escrow_id, nonce, txs_proto, user_sig, post_state_root, state_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let inserting = inserting
            .bind(int(session.binding.epoch.0)?)
            .bind(session.escrow.as_str().to_owned())
            .bind(int(diff.nonce.0)?)
            .bind(diff.txs.clone())
            .bind(diff.user_sig.clone())
            .bind(diff.post_state_root.clone())
            .bind(state_hash.to_vec());
        inserting.execute(&mut **transaction).await.map(drop).map_err(StorageError::Database)
    }
}

impl AppendError {
    /// Whether two histories were told for one session: it must never happen.
    #[must_use]
    pub const fn is_fork(&self) -> bool {
        match self {
            AppendError::Diff(DiffError::Fork(_)) => true,
            AppendError::Diff(DiffError::Gap { .. } | DiffError::Zero) | AppendError::Storage(_) => false,
        }
    }
}

fn session(escrow: &EscrowId, row: &AnyRow) -> Result<Session, StorageError> {
    Ok(Session {
        escrow: escrow.clone(),
        binding: Binding {
            epoch: Epoch(read_int(row, "epoch_id")?),
            version: read_text(row, "version")?,
            creator: Address::stored(read_text(row, "creator_addr")?),
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
