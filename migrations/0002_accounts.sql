-- Accounts of owners, and `equity`, from which their openings come.
CREATE TABLE IF NOT EXISTS accounts (
    id            BINARY(16)   NOT NULL,
    -- Nobody owns equity, so no call of the API can name it.
    owner_id      BINARY(16)   NULL,
    name          VARCHAR(100) NOT NULL,
    -- The sum of the account's entries, kept in the same transaction as they are. Equity has none stored: it would be the one lock that
    -- every opening queues for.
    balance_cents BIGINT       NULL,
    created_at    DATETIME(3)  NOT NULL,
    PRIMARY KEY (id),
    -- An owner's accounts, newest first.
    KEY accounts_by_owner (owner_id, id),
    CONSTRAINT accounts_owner FOREIGN KEY (owner_id) REFERENCES owners (id),
    CONSTRAINT accounts_name CHECK (CHAR_LENGTH(name) >= 1 AND NOT REGEXP_LIKE(name, '[[:cntrl:]]')),
    CONSTRAINT accounts_owned_have_a_balance CHECK ((owner_id IS NULL) = (balance_cents IS NULL)),
    -- 2^53 - 1: any JSON reader gets it right.
    CONSTRAINT accounts_balance CHECK (balance_cents BETWEEN 0 AND 9007199254740991)
);
