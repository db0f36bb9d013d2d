-- Money that went from one account to another: a row is written once and never changed.
CREATE TABLE IF NOT EXISTS transfers (
    id           BINARY(16)   NOT NULL,
    from_account BINARY(16)   NOT NULL,
    to_account   BINARY(16)   NOT NULL,
    amount_cents BIGINT       NOT NULL,
    memo         VARCHAR(200) NULL,
    created_at   DATETIME(3)  NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT transfers_from FOREIGN KEY (from_account) REFERENCES accounts (id),
    CONSTRAINT transfers_to FOREIGN KEY (to_account) REFERENCES accounts (id),
    CONSTRAINT transfers_sides_differ CHECK (from_account <> to_account),
    CONSTRAINT transfers_amount CHECK (amount_cents BETWEEN 1 AND 1000000000000),
    CONSTRAINT transfers_memo CHECK (NOT REGEXP_LIKE(memo, '[[:cntrl:]]'))
);
