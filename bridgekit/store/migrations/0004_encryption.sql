-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

CREATE TABLE our_devices (
    mxid      TEXT PRIMARY KEY,
    device    TEXT NOT NULL,
    secrets   BLOB NOT NULL,  -- sqlite
    secrets   BYTEA NOT NULL, -- postgres
    published BIGINT NOT NULL
);

CREATE TABLE olm (
    ours   TEXT NOT NULL,
    theirs TEXT NOT NULL,
    id     TEXT NOT NULL,
    pickle BLOB NOT NULL,  -- sqlite
    pickle BYTEA NOT NULL, -- postgres
    used   BIGINT NOT NULL,
    PRIMARY KEY (ours, theirs, id)
);

CREATE TABLE megolm_out (
    room    TEXT NOT NULL,
    sender  TEXT NOT NULL,
    session TEXT NOT NULL,
    pickle  BLOB NOT NULL,  -- sqlite
    pickle  BYTEA NOT NULL, -- postgres
    made    BIGINT NOT NULL,
    sent    BIGINT NOT NULL,
    PRIMARY KEY (room, sender)
);

CREATE TABLE megolm_shared (
    session  TEXT NOT NULL,
    mxid     TEXT NOT NULL,
    device   TEXT NOT NULL,
    key      TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (session, mxid, device)
)
WITHOUT ROWID -- sqlite
;

CREATE TABLE megolm_in (
    session     TEXT NOT NULL,
    room        TEXT NOT NULL,
    sender      TEXT NOT NULL,
    sender_key  TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    pickle      BLOB NOT NULL,  -- sqlite
    pickle      BYTEA NOT NULL, -- postgres
    PRIMARY KEY (session, room, sender)
);

-- Which event stands at which place of a session: a second one there is a replay.
CREATE TABLE megolm_seen (
    session  TEXT NOT NULL,
    position BIGINT NOT NULL,
    event    TEXT NOT NULL,
    PRIMARY KEY (session, position)
)
WITHOUT ROWID -- sqlite
;

CREATE TABLE their_keys (
    mxid TEXT PRIMARY KEY,
    keys BLOB NOT NULL  -- sqlite
    keys BYTEA NOT NULL -- postgres
);

CREATE TABLE to_device (
    id   INTEGER PRIMARY KEY, -- sqlite
    id   BIGINT PRIMARY KEY,  -- postgres
    body BLOB NOT NULL  -- sqlite
    body BYTEA NOT NULL -- postgres
);

CREATE TABLE encrypted_rooms (
    room     TEXT PRIMARY KEY,
    settings BLOB NOT NULL  -- sqlite
    settings BYTEA NOT NULL -- postgres
);
