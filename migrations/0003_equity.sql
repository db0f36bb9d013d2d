-- The account on the other side of every opening. services/web/src/ledger/entries.rs knows its id.
INSERT IGNORE INTO accounts (id, owner_id, name, balance_cents, created_at)
VALUES (X'00000000000070008000000000000000', NULL, 'equity', NULL, '2026-01-01 00:00:00.000');
