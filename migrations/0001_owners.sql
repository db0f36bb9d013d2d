-- Whoever opened accounts. No sign-in data: a caller is who its signed token says.
CREATE TABLE IF NOT EXISTS owners (
    -- UUIDv7, like every id that leaves the system: it sorts by time, and is never given twice, not even after a failover.
    id         BINARY(16)   NOT NULL,
    name       VARCHAR(100) NOT NULL,
    -- UTC, to the millisecond: the time inside the id.
    created_at DATETIME(3)  NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT owners_name CHECK (CHAR_LENGTH(name) >= 1 AND NOT REGEXP_LIKE(name, '[[:cntrl:]]'))
);
