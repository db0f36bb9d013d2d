-- Double entry: each posting, a transfer or an opening, is two rows that add up to zero.
CREATE TABLE IF NOT EXISTS entries (
    -- The id of the transfer, or of the account that was opened.
    posting_id   BINARY(16) NOT NULL,
    account_id   BINARY(16) NOT NULL,
    -- NULL in an opening, which is no transfer.
    transfer_id  BINARY(16) NULL,
    -- Below zero: money that left the account.
    amount_cents BIGINT     NOT NULL,
    PRIMARY KEY (posting_id, account_id),
    -- An account's transfers, newest first.
    KEY entries_by_account (account_id, transfer_id),
    KEY entries_by_transfer (transfer_id),
    CONSTRAINT entries_account FOREIGN KEY (account_id) REFERENCES accounts (id),
    CONSTRAINT entries_transfer FOREIGN KEY (transfer_id) REFERENCES transfers (id),
    CONSTRAINT entries_posting CHECK (transfer_id IS NULL OR transfer_id = posting_id),
    CONSTRAINT entries_amount CHECK (amount_cents <> 0 AND amount_cents BETWEEN -1000000000000 AND 1000000000000)
);
