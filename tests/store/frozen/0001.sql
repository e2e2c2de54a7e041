-- Schema 1 with data, as version 1 wrote it. This file never changes.
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
CREATE TABLE schema_version (version BIGINT PRIMARY KEY);
INSERT INTO schema_version VALUES (1);

INSERT INTO meta (name, value) VALUES ('canary', x'01fe14ed82e1f127a52be698ade1c19efe9902750b234669880e71b32c6b6d98aa79ba979462') -- sqlite
INSERT INTO meta (name, value) VALUES ('canary', '\x01fe14ed82e1f127a52be698ade1c19efe9902750b234669880e71b32c6b6d98aa79ba979462') -- postgres
;
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765221688631885824, 'example', '#lobby', 'login-1', x'01fc820b4e045d66a60ba95ecd43fd440b2e3b030b2d96486555bb8b3b55f7037752a5c084533097c7d1fc10166eced584eb554cd72c54', 1700000000000, NULL) -- sqlite
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765221688631885824, 'example', '#lobby', 'login-1', '\x01fc820b4e045d66a60ba95ecd43fd440b2e3b030b2d96486555bb8b3b55f7037752a5c084533097c7d1fc10166eced584eb554cd72c54', 1700000000000, NULL) -- postgres
;
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765221688631885825, 'example', '#lobby', NULL, x'019e90cf56851e1800c0427aa7b2d415a98b54627adae922027517ad161bdfdb2d4d2a9f4541edd0b7a4a5b113d31a448ef202de9f6655', 1700000000000, 'Traceback: ValueError') -- sqlite
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765221688631885825, 'example', '#lobby', NULL, '\x019e90cf56851e1800c0427aa7b2d415a98b54627adae922027517ad161bdfdb2d4d2a9f4541edd0b7a4a5b113d31a448ef202de9f6655', 1700000000000, 'Traceback: ValueError') -- postgres
;
INSERT INTO outbox (inbox, step, state) VALUES (3765221688631885824, 0, 'sending');
INSERT INTO transactions (txn, at) VALUES ('txn-1', 1795397610012);
INSERT INTO copies (message, side, chat, id, part, room, sender, at, origin, kind, parent, key) VALUES (3765221688631885826, 'example', '#lobby', 'one', 0, '!room:example.org', 'ann', 3765221688631885826, 1, 'message', 0, '');
INSERT INTO copies (message, side, chat, id, part, room, sender, at, origin, kind, parent, key) VALUES (3765221688631885826, 'matrix', '!room:example.org', '$one', 0, '!room:example.org', '@_ann:example.org', 3765221688631885826, 0, 'message', 0, '');
INSERT INTO newest (side, chat, message) VALUES ('example', '#lobby', 3765221688631885826);
INSERT INTO newest (side, chat, message) VALUES ('matrix', '!room:example.org', 3765221688631885826);
INSERT INTO portals (room, network, made, kind, creator, encrypted) VALUES ('!room:example.org', 'example', 1, 'channel', '@bob:example.org', 0);
INSERT INTO links (network, chat, receiver, room, name, reader, creator, static, state, reason, since) VALUES ('example', '#lobby', '', '!room:example.org', '#lobby', NULL, '@bob:example.org', 0, 'open', '', 5);
INSERT INTO ghosts (mxid, network, person, name, avatar, avatar_source) VALUES ('@_example_ann:example.org', 'example', 'ann', 'Ann', '', '');
INSERT INTO members (room, mxid, state) VALUES ('!room:example.org', '@_example_ann:example.org', 'join');
INSERT INTO logins (id, network, owner, fields, state, reason) VALUES ('login-1', 'example', '@bob:example.org', x'0127a02a59401cd70ee46c6379909af4a64b7c7f39487d01e094b29716c3914cdd2cd1ca3e351ff0da5bc4f9f33000fdd7250be8dfa4e494c3b98c864a4fdcf61e6d', 'connected', '') -- sqlite
INSERT INTO logins (id, network, owner, fields, state, reason) VALUES ('login-1', 'example', '@bob:example.org', '\x0127a02a59401cd70ee46c6379909af4a64b7c7f39487d01e094b29716c3914cdd2cd1ca3e351ff0da5bc4f9f33000fdd7250be8dfa4e494c3b98c864a4fdcf61e6d', 'connected', '') -- postgres
;
INSERT INTO kv (namespace, key, value) VALUES ('example', 'state', x'01f414bce0158a9929b669746814e8e9a46a39a50e4bb5cb9b50481f22ce0ec6c00d413339ca665b4af123f322476e56b36e7c844087be') -- sqlite
INSERT INTO kv (namespace, key, value) VALUES ('example', 'state', '\x01f414bce0158a9929b669746814e8e9a46a39a50e4bb5cb9b50481f22ce0ec6c00d413339ca665b4af123f322476e56b36e7c844087be') -- postgres
;
