//! What members have signed of a session's states, and what they have to say of it that no step says yet.

use std::collections::BTreeMap;

use devshard_core::ids::Nonce;
use devshard_core::session::Slot;
use devshard_core::wire::Tx;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sqlx::{Any, Transaction};

use super::{Session, Storage, StorageError, int, read_bytes, read_int, read_text};

/// Transactions of others that are kept for one session, at most.
const KEPT: u64 = 4_096;

/// A member's signature of the state behind a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub nonce: Nonce,
    pub slot: Slot,
    pub bytes: Vec<u8>,
}

impl Storage {
    /// The signatures of the state behind a step, by slot.
    pub async fn signatures(&self, session: &Session, nonce: Nonce) -> Result<BTreeMap<Slot, Vec<u8>>, StorageError> {
        let question = sqlx::query(
            "SELECT slot_id, signature FROM devshard_signatures WHERE epoch_id = $1 AND escrow_id = $2 AND nonce = $3",
        );
        let question = question
            .bind(int(session.epoch.0)?)
            .bind(session.escrow().as_str().to_owned())
            .bind(i64::try_from(nonce.0).unwrap_or(i64::MAX));
        let rows = question.fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
        rows.iter()
            .map(|row| {
                let slot = read_text(row, "slot_id")?;
                let number = slot.parse().map_err(|_| StorageError::Damaged { what: "slot_id", value: slot })?;
                Ok((Slot(number), read_bytes(row, "signature")?))
            })
            .collect()
    }

    /// Keeps the signatures of another member. A step is final once more than two thirds of the slots have signed the
    /// state behind it.
    pub async fn keep_signatures(&self, session: &Session, signatures: &[Signature]) -> Result<(), StorageError> {
        let mut transaction = self.begin().await?;
        self.insert_signatures(&mut transaction, session, signatures).await?;
        let slots = u64::try_from(session.binding.group.len()).unwrap_or(u64::MAX);
        if let Some(nonce) = signatures.first().map(|signature| signature.nonce) {
            let statement = "UPDATE devshard_sessions SET last_finalized = $3 \
                 WHERE epoch_id = $1 AND escrow_id = $2 AND last_finalized < $3 AND $4 <= \
                 (SELECT COUNT(*) FROM devshard_signatures WHERE epoch_id = $1 AND escrow_id = $2 AND nonce = $3)";
            let marking = sqlx::query(statement)
                .bind(int(session.epoch.0)?)
                .bind(session.escrow().as_str().to_owned())
                .bind(int(nonce.0)?)
                .bind(int(2 * slots / 3 + 1)?);
            marking.execute(&mut *transaction).await.map_err(StorageError::Database)?;
        }
        transaction.commit().await.map_err(StorageError::Database)
    }

    pub(super) async fn insert_signatures(
        &self,
        transaction: &mut Transaction<'_, Any>,
        session: &Session,
        signatures: &[Signature],
    ) -> Result<(), StorageError> {
        for signature in signatures {
            let inserting = sqlx::query(
                "INSERT INTO devshard_signatures (epoch_id, escrow_id, nonce, slot_id, signature) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            );
            let inserting = inserting
                .bind(int(session.epoch.0)?)
                .bind(session.escrow().as_str().to_owned())
                .bind(int(signature.nonce.0)?)
                .bind(signature.slot.0.to_string())
                .bind(signature.bytes.clone());
            inserting.execute(&mut **transaction).await.map_err(StorageError::Database)?;
        }
        Ok(())
    }

    /// Keeps what other members have to say, each once, and not more than a session may need.
    pub async fn keep_txs(&self, session: &Session, txs: &[Tx]) -> Result<(), StorageError> {
        for tx in txs {
            let bytes = tx.encode_to_vec();
            let name: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let inserting = sqlx::query(
                "INSERT INTO devshard_mempool (epoch_id, escrow_id, tx_hash, tx_proto) SELECT $1, $2, $3, $4 WHERE $5 > \
                 (SELECT COUNT(*) FROM devshard_mempool WHERE epoch_id = $1 AND escrow_id = $2) ON CONFLICT DO NOTHING",
            );
            let inserting = inserting
                .bind(int(session.epoch.0)?)
                .bind(session.escrow().as_str().to_owned())
                .bind(name)
                .bind(bytes)
                .bind(int(KEPT)?);
            inserting.execute(&self.database.pool).await.map_err(StorageError::Database)?;
        }
        Ok(())
    }

    /// What other members have said, and whether it may be forgotten is what `is_owed` tells.
    pub async fn kept_txs(&self, session: &Session, is_owed: impl Fn(&Tx) -> bool) -> Result<Vec<Tx>, StorageError> {
        let question = sqlx::query(
            "SELECT tx_hash, tx_proto FROM devshard_mempool WHERE epoch_id = $1 AND escrow_id = $2 ORDER BY tx_hash",
        );
        let question = question.bind(int(session.epoch.0)?).bind(session.escrow().as_str().to_owned());
        let rows = question.fetch_all(&self.database.pool).await.map_err(StorageError::Database)?;
        let mut kept = Vec::new();
        for row in &rows {
            match Tx::read(&read_bytes(row, "tx_proto")?) {
                Ok(tx) if is_owed(&tx) => kept.push(tx),
                Ok(_) | Err(_) => self.forget_tx(session, read_text(row, "tx_hash")?).await?,
            }
        }
        Ok(kept)
    }

    async fn forget_tx(&self, session: &Session, name: String) -> Result<(), StorageError> {
        let statement = "DELETE FROM devshard_mempool WHERE epoch_id = $1 AND escrow_id = $2 AND tx_hash = $3";
        let forgetting =
            sqlx::query(statement).bind(int(session.epoch.0)?).bind(session.escrow().as_str().to_owned()).bind(name);
        forgetting.execute(&self.database.pool).await.map(drop).map_err(StorageError::Database)
    }

    /// The last step that is final.
    pub async fn last_finalized(&self, session: &Session) -> Result<Nonce, StorageError> {
        let statement = "SELECT last_finalized FROM devshard_sessions WHERE epoch_id = $1 AND escrow_id = $2";
        let question = sqlx::query(statement).bind(int(session.epoch.0)?).bind(session.escrow().as_str().to_owned());
        let row = question.fetch_one(&self.database.pool).await.map_err(StorageError::Database)?;
        Ok(Nonce(read_int(&row, "last_finalized")?))
    }
}
