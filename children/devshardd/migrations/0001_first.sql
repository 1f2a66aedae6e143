-- Tables of the upstream, divided by epoch, and beside them the claims of executions and who is alive. Written for
-- Postgres; `storage/schema.rs` makes of it what SQLite takes.
CREATE TABLE devshard_storage_identity (
    id SMALLINT PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL
);

-- A build older than this format cannot work here.
CREATE TABLE devshard_format (
    id SMALLINT PRIMARY KEY CHECK (id = 1),
    readers_from BIGINT NOT NULL
);
INSERT INTO devshard_format VALUES (1, 1);

CREATE TABLE devshard_owners (
    owner TEXT PRIMARY KEY,
    until_ms BIGINT NOT NULL,
    mark TEXT NOT NULL DEFAULT ''
);

CREATE TABLE devshard_session_index (
    escrow_id TEXT PRIMARY KEY,
    epoch_id BIGINT NOT NULL
);

CREATE TABLE devshard_sessions (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    version TEXT NOT NULL,
    creator_addr TEXT NOT NULL,
    config_json TEXT NOT NULL DEFAULT '{}',
    group_json TEXT NOT NULL DEFAULT '[]',
    initial_balance BIGINT NOT NULL DEFAULT 0,
    latest_nonce BIGINT NOT NULL DEFAULT 0,
    last_finalized BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'active',
    settled_at BIGINT,
    PRIMARY KEY (epoch_id, escrow_id)
) PARTITION BY RANGE (epoch_id);

CREATE TABLE devshard_diffs (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    nonce BIGINT NOT NULL,
    txs_proto BYTEA NOT NULL,
    user_sig BYTEA NOT NULL,
    post_state_root BYTEA NOT NULL,
    state_hash BYTEA NOT NULL,
    PRIMARY KEY (epoch_id, escrow_id, nonce)
) PARTITION BY RANGE (epoch_id);

CREATE TABLE devshard_signatures (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    nonce BIGINT NOT NULL,
    slot_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (epoch_id, escrow_id, nonce, slot_id)
) PARTITION BY RANGE (epoch_id);

CREATE TABLE devshard_executions (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    inference_id BIGINT NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT NOT NULL,
    owner TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    result BYTEA,
    result_hash BYTEA,
    PRIMARY KEY (epoch_id, escrow_id, inference_id)
) PARTITION BY RANGE (epoch_id);

CREATE TABLE devshard_validation_leases (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    inference_id BIGINT NOT NULL,
    instance_address TEXT NOT NULL,
    claimed_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (epoch_id, escrow_id, inference_id)
) PARTITION BY RANGE (epoch_id);
