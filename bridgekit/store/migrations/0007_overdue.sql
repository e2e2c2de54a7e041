-- The ids of the events that a transaction brought, as JSON.
ALTER TABLE transactions ADD COLUMN events TEXT NOT NULL DEFAULT '[]';

-- Events that no transaction brought, and that were read in their rooms: should one bring them at last, they came already.
CREATE TABLE overdue (
    event TEXT PRIMARY KEY,
    at    BIGINT NOT NULL
)
WITHOUT ROWID -- sqlite
;
