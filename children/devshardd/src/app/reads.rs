//! What anybody may look at: the history of a session, what is owed of it, who has signed it, which database this is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devshard_core::diffs::Diff;
use devshard_core::ids::Nonce;
use serde_json::json;
use supervisor_sdk::axum::extract::{Path, Query, State};
use supervisor_sdk::axum::response::{IntoResponse as _, Json};

use super::{Answer, Named, Shared, number};
use crate::host::coded;
use crate::members::written_step;
use crate::peers::Identity;

/// `?from=&to=`, both included: at most a page of them.
pub(super) async fn diffs(State(app): Shared, Path(id): Path<String>, Query(named): Query<Named>) -> Answer {
    let (from, to) = (Nonce(number(&named, "from")?), Nonce(number(&named, "to")?));
    let session = app.named(&id).await?;
    let diffs = app.storage.diffs(&session, from, to).await?;
    let written =
        |(diff, root): &(Diff, Vec<u8>)| json!({"diff": written_step(diff), "state_hash": STANDARD.encode(root)});
    Ok(Json(diffs.iter().map(written).collect::<Vec<_>>()).into_response())
}

/// What members have to say and no step says yet.
pub(super) async fn mempool(State(app): Shared, Path(id): Path<String>) -> Answer {
    let session = app.named(&id).await?;
    let owed = app.ledger.mempool(&session).await?;
    Ok(Json(json!({"txs": coded(&owed)})).into_response())
}

/// `?nonce=`: by slot of the group, with the last step that more than two thirds have signed.
pub(super) async fn signatures(State(app): Shared, Path(id): Path<String>, Query(named): Query<Named>) -> Answer {
    let nonce = Nonce(number(&named, "nonce")?);
    let session = app.named(&id).await?;
    let signatures = app.storage.signatures(&session, nonce).await?;
    let signatures: BTreeMap<u32, String> =
        signatures.into_iter().map(|(slot, bytes)| (slot.0, STANDARD.encode(bytes))).collect();
    let last = app.storage.last_finalized(&session).await?;
    Ok(Json(json!({"signatures": signatures, "last_finalized": last})).into_response())
}

#[derive(serde::Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    owner: String,
}

/// What another host proves by that it uses the same database.
pub(super) async fn identity(State(app): Shared, Query(asked): Query<Asked>) -> Answer {
    let (uuid, mark) = (app.storage.uuid().await?, app.storage.mark_of(&asked.owner).await?);
    let owner = app.storage.me().to_string();
    Ok(Json(Identity { uuid, owner, mark }).into_response())
}
