-- What a session's group needs: of each execution what its executor has said and committed to, of each check what came
-- of it, and what other members have to say.
ALTER TABLE devshard_executions ADD COLUMN confirmed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devshard_executions ADD COLUMN prompt BYTEA;
ALTER TABLE devshard_executions ADD COLUMN response_hash BYTEA;
ALTER TABLE devshard_executions ADD COLUMN input_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devshard_executions ADD COLUMN output_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devshard_validation_leases ADD COLUMN is_valid BIGINT;

CREATE TABLE devshard_mempool (
    epoch_id BIGINT NOT NULL,
    escrow_id TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    tx_proto BYTEA NOT NULL,
    PRIMARY KEY (epoch_id, escrow_id, tx_hash)
) PARTITION BY RANGE (epoch_id);
