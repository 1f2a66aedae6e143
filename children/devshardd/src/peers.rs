//! Other session hosts, which must read what is written here (failure mode S17).
//!
//! A database that was cloned, or a wrong URL, would give an inference two places of record, and two runs. Each host
//! writes a fresh mark and asks the others for it. Whoever does not answer proves nothing and is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use children_kit::log::chain;

use crate::storage::{Storage, StorageError};

/// Why a host is not ready, and takes nothing.
pub const MISMATCH: &str = "storage_mismatch";

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(15);
/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(3);

/// What a host answers at `/internal/storage-identity?owner=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uuid: String,
    /// Who answers.
    pub owner: String,
    /// The mark of the owner that was asked for, if this host's database knows it.
    pub mark: Option<String>,
}

/// A host that does not read what was written here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("{peer} uses the database {theirs}, and this host {ours}")]
    Other { peer: String, ours: String, theirs: String },
    #[error("{peer} does not read what this host writes: its database is a copy")]
    Copy { peer: String },
}

/// The others, and what was last found. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers {
    urls: Vec<String>,
    client: reqwest::Client,
    /// What each was last known by. One that does not answer proves nothing, and clears nothing.
    found: Arc<Mutex<BTreeMap<String, Mismatch>>>,
}

impl Peers {
    pub fn new(urls: Vec<String>) -> Result<Peers, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Peers { urls, client, found: Arc::default() })
    }

    /// What is wrong, as far as is known.
    #[must_use]
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.found.lock().values().next().cloned()
    }

    /// Asks all of them once.
    pub async fn ask(&self, storage: &Storage) -> Result<(), StorageError> {
        if self.urls.is_empty() {
            return Ok(());
        }
        let (mark, uuid) = (uuid::Uuid::new_v4().to_string(), storage.uuid().await?);
        storage.mark(&mark).await?;
        for peer in &self.urls {
            match self.question(peer, storage.me().as_str()).await {
                Ok(answer) => match judge(peer, &uuid, &mark, storage.me().as_str(), &answer) {
                    Some(mismatch) => {
                        tracing::error!(%mismatch, "the place of record is not one");
                        self.found.lock().insert(peer.clone(), mismatch);
                    }
                    None => {
                        self.found.lock().remove(peer);
                    }
                },
                Err(error) => tracing::info!(peer, error = %chain(&error), "does not answer"),
            }
        }
        Ok(())
    }

    /// Asks for ever.
    pub async fn follow(self, storage: Storage) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.ask(&storage).await {
                tracing::warn!(error = %chain(&error), "peers are not asked");
            }
        }
    }

    async fn question(&self, peer: &str, owner: &str) -> Result<Identity, reqwest::Error> {
        let url = format!("{}/internal/storage-identity?owner={owner}", peer.trim_end_matches('/'));
        let text = self.client.get(url).send().await?.error_for_status()?.bytes().await?;
        // What is no identity is no answer: the text is told by the decoder.
        Ok(serde_json::from_slice(&text).unwrap_or_else(|_| Identity {
            uuid: String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned(),
            owner: String::new(),
            mark: None,
        }))
    }
}

fn judge(peer: &str, uuid: &str, mark: &str, me: &str, answer: &Identity) -> Option<Mismatch> {
    let peer = peer.to_owned();
    if answer.owner == me {
        // It is this process, by another way.
        None
    } else if answer.uuid != uuid {
        Some(Mismatch::Other { peer, ours: uuid.to_owned(), theirs: answer.uuid.clone() })
    } else if answer.mark.as_deref() != Some(mark) {
        Some(Mismatch::Copy { peer })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s17_the_name_of_a_database_proves_nothing() {
        let answer = |uuid: &str, mark: Option<&str>| Identity {
            uuid: uuid.to_owned(),
            owner: "you".to_owned(),
            mark: mark.map(str::to_owned),
        };
        let check = |answer: &Identity| judge("http://b", "u", "fresh", "me", answer).map(|found| found.to_string());
        assert_eq!(check(&answer("u", Some("fresh"))), None);
        let copy = "http://b does not read what this host writes: its database is a copy";
        // A clone has the row of a host that was alive when it was made, with an earlier mark.
        for mark in [None, Some("stale")] {
            assert_eq!(check(&answer("u", mark)).as_deref(), Some(copy));
        }
        let other = "http://b uses the database w, and this host u";
        assert_eq!(check(&answer("w", Some("fresh"))).as_deref(), Some(other));
        assert_eq!(check(&Identity { owner: "me".to_owned(), ..answer("w", None) }), None);
    }
}
