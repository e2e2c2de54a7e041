-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL   -- sqlite
    value BYTEA NOT NULL  -- postgres
);

CREATE TABLE inbox (
    id       INTEGER PRIMARY KEY, -- sqlite
    id       BIGINT PRIMARY KEY,  -- postgres
    side     TEXT NOT NULL,
    chat     TEXT NOT NULL,
    receiver TEXT,
    body     BLOB NOT NULL,  -- sqlite
    body     BYTEA NOT NULL, -- postgres
    at       BIGINT NOT NULL,
    error    TEXT
);

CREATE TABLE outbox (
    inbox BIGINT NOT NULL,
    step  BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (inbox, step)
)
WITHOUT ROWID -- sqlite
;

CREATE TABLE transactions (
    txn TEXT PRIMARY KEY,
    at  BIGINT NOT NULL
)
WITHOUT ROWID -- sqlite
;
CREATE INDEX transactions_by_time ON transactions (at);

CREATE TABLE copies (
    message BIGINT NOT NULL,
    side    TEXT NOT NULL,
    chat    TEXT NOT NULL,
    id      TEXT NOT NULL,
    part    BIGINT NOT NULL,
    room    TEXT NOT NULL,
    sender  TEXT NOT NULL,
    at      BIGINT NOT NULL,
    origin  BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    parent  BIGINT NOT NULL,
    key     TEXT NOT NULL,
    PRIMARY KEY (message, side, chat, id, part)
)
WITHOUT ROWID -- sqlite
;
CREATE INDEX copies_by_id ON copies (id, chat, side);
CREATE INDEX copies_by_parent ON copies (parent, sender, key) WHERE parent > 0;

-- The newest message of each chat: an index over all copies would cost more than half as much as the table itself.
CREATE TABLE newest (
    side    TEXT NOT NULL,
    chat    TEXT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (side, chat)
)
WITHOUT ROWID -- sqlite
;

CREATE TABLE portals (
    room      TEXT PRIMARY KEY,
    network   TEXT,
    made      BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    creator   TEXT NOT NULL,
    encrypted BIGINT NOT NULL
);

CREATE TABLE links (
    network  TEXT NOT NULL,
    chat     TEXT NOT NULL,
    receiver TEXT NOT NULL,
    room     TEXT NOT NULL,
    name     TEXT NOT NULL,
    reader   TEXT,
    creator  TEXT NOT NULL,
    static   BIGINT NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    since    BIGINT NOT NULL,
    PRIMARY KEY (network, chat, receiver)
);

CREATE TABLE ghosts (
    mxid          TEXT PRIMARY KEY,
    network       TEXT NOT NULL,
    person        TEXT NOT NULL,
    name          TEXT NOT NULL,
    avatar        TEXT NOT NULL,
    avatar_source TEXT NOT NULL
)
WITHOUT ROWID -- sqlite
;
CREATE INDEX ghosts_by_network ON ghosts (network);

CREATE TABLE members (
    room  TEXT NOT NULL,
    mxid  TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (room, mxid)
)
WITHOUT ROWID -- sqlite
;

CREATE TABLE logins (
    id      TEXT PRIMARY KEY,
    network TEXT NOT NULL,
    owner   TEXT NOT NULL,
    fields  BLOB NOT NULL,  -- sqlite
    fields  BYTEA NOT NULL, -- postgres
    state   TEXT NOT NULL,
    reason  TEXT NOT NULL
);

CREATE TABLE kv (
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    value     BLOB NOT NULL,  -- sqlite
    value     BYTEA NOT NULL, -- postgres
    PRIMARY KEY (namespace, key)
);
