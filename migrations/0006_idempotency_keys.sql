-- What was answered to a request with a key, written in the transaction of the change itself: a row is there if and only if the change is.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    owner_id        BINARY(16)     NOT NULL,
    route           VARCHAR(32)    NOT NULL COLLATE ascii_bin,
    -- Compared byte for byte, which no text column's collation promises.
    idempotency_key VARBINARY(255) NOT NULL,
    -- SHA-256 of the request's values: the same key for another body is refused.
    fingerprint     BINARY(32)     NOT NULL,
    -- The 201's body.
    answer          VARBINARY(4096) NOT NULL,
    created_at      DATETIME(3)    NOT NULL,
    PRIMARY KEY (owner_id, route, idempotency_key),
    -- The oldest first, for the purge.
    KEY idempotency_keys_by_age (created_at),
    CONSTRAINT idempotency_keys_owner FOREIGN KEY (owner_id) REFERENCES owners (id),
    CONSTRAINT idempotency_keys_key CHECK (LENGTH(idempotency_key) >= 1)
);
