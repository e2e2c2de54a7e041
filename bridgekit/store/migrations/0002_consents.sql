-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

CREATE TABLE consents (
    id       INTEGER PRIMARY KEY, -- sqlite
    id       BIGINT PRIMARY KEY,  -- postgres
    network  TEXT NOT NULL,
    chat     TEXT NOT NULL,
    scopes   TEXT NOT NULL,
    person   TEXT NOT NULL,
    name     TEXT NOT NULL,
    account  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    wording  TEXT NOT NULL,
    lost     BIGINT NOT NULL,
    until    BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    ended_by TEXT NOT NULL,
    granted  BIGINT NOT NULL
);
CREATE INDEX consents_by_chat ON consents (network, chat);

CREATE TABLE asks (
    id      INTEGER PRIMARY KEY, -- sqlite
    id      BIGINT PRIMARY KEY,  -- postgres
    network TEXT NOT NULL,
    chat    TEXT NOT NULL,
    person  TEXT NOT NULL,
    name    TEXT NOT NULL,
    account TEXT NOT NULL,
    scopes  TEXT NOT NULL,
    digest  TEXT NOT NULL,
    wording TEXT NOT NULL,
    at      BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE optouts (
    network TEXT NOT NULL,
    person  TEXT NOT NULL,
    account TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (network, person)
)
WITHOUT ROWID -- sqlite
;

-- Facts of the inbox that wait. The row in the inbox is what matters: this says why, and since when.
CREATE TABLE held (
    number   INTEGER PRIMARY KEY, -- sqlite
    number   BIGINT PRIMARY KEY,  -- postgres
    network  TEXT NOT NULL,
    chat     TEXT NOT NULL,
    receiver TEXT NOT NULL,
    person   TEXT NOT NULL,
    cause    TEXT NOT NULL,
    why      TEXT NOT NULL,
    since    BIGINT NOT NULL
);
