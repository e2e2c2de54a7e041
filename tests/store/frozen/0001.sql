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
CREATE TABLE schema_version (version BIGINT PRIMARY KEY);
INSERT INTO schema_version VALUES (1);

INSERT INTO meta (name, value) VALUES ('canary', x'01205bae2d30c65d40f7e9da60c031c7054f8a33ac25961aedf79ac415c599d75a43f63ae1b4') -- sqlite
INSERT INTO meta (name, value) VALUES ('canary', '\x01205bae2d30c65d40f7e9da60c031c7054f8a33ac25961aedf79ac415c599d75a43f63ae1b4') -- postgres
;
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765222150194069504, 'example', '#lobby', 'login-1', x'0180975f0ce684e7861b94f6e3179c9da16e59a8f387c986600952081ec12c11d64a22a5be10fff414998cd4181732ea89a4b30078f0b5', 1700000000000, NULL) -- sqlite
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765222150194069504, 'example', '#lobby', 'login-1', '\x0180975f0ce684e7861b94f6e3179c9da16e59a8f387c986600952081ec12c11d64a22a5be10fff414998cd4181732ea89a4b30078f0b5', 1700000000000, NULL) -- postgres
;
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765222150194069505, 'example', '#lobby', NULL, x'01ca90790fb64a97ebc4ca0e25d63274acbba8876768e804801d6516351900f740de63d47d44a29f02077b1d4f9e12b4a2ea4f07443f72', 1700000000000, 'Traceback: ValueError') -- sqlite
INSERT INTO inbox (id, side, chat, receiver, body, at, error) VALUES (3765222150194069505, 'example', '#lobby', NULL, '\x01ca90790fb64a97ebc4ca0e25d63274acbba8876768e804801d6516351900f740de63d47d44a29f02077b1d4f9e12b4a2ea4f07443f72', 1700000000000, 'Traceback: ValueError') -- postgres
;
INSERT INTO outbox (inbox, step, state) VALUES (3765222150194069504, 0, 'sending');
INSERT INTO transactions (txn, at) VALUES ('txn-1', 1795397830102);
INSERT INTO copies (message, side, chat, id, part, room, sender, at, origin, kind, parent, key) VALUES (3765222150194069506, 'example', '#lobby', 'one', 0, '!room:example.org', 'ann', 3765222150194069506, 1, 'message', 0, '');
INSERT INTO copies (message, side, chat, id, part, room, sender, at, origin, kind, parent, key) VALUES (3765222150194069506, 'matrix', '!room:example.org', '$one', 0, '!room:example.org', '@_ann:example.org', 3765222150194069506, 0, 'message', 0, '');
INSERT INTO newest (side, chat, message) VALUES ('example', '#lobby', 3765222150194069506);
INSERT INTO newest (side, chat, message) VALUES ('matrix', '!room:example.org', 3765222150194069506);
INSERT INTO portals (room, network, made, kind, creator, encrypted) VALUES ('!room:example.org', 'example', 1, 'channel', '@bob:example.org', 0);
INSERT INTO links (network, chat, receiver, room, name, reader, creator, static, state, reason, since) VALUES ('example', '#lobby', '', '!room:example.org', '#lobby', NULL, '@bob:example.org', 0, 'open', '', 5);
INSERT INTO ghosts (mxid, network, person, name, avatar, avatar_source) VALUES ('@_example_ann:example.org', 'example', 'ann', 'Ann', '', '');
INSERT INTO members (room, mxid, state) VALUES ('!room:example.org', '@_example_ann:example.org', 'join');
INSERT INTO logins (id, network, owner, fields, state, reason) VALUES ('login-1', 'example', '@bob:example.org', x'01b203ba3500ebc55908a1978b65566cdc54f6430d6cbaba976e036462a94d84ef72e5b605283908eea184bc9d368147ed3608e39d32ff70193cb47fb759ec3da7bd', 'connected', '') -- sqlite
INSERT INTO logins (id, network, owner, fields, state, reason) VALUES ('login-1', 'example', '@bob:example.org', '\x01b203ba3500ebc55908a1978b65566cdc54f6430d6cbaba976e036462a94d84ef72e5b605283908eea184bc9d368147ed3608e39d32ff70193cb47fb759ec3da7bd', 'connected', '') -- postgres
;
INSERT INTO kv (namespace, key, value) VALUES ('example', 'state', x'014fe43fcd008038dd5d9d283316c6c48de33c66e4d7c427f7bd60fe326148fd89fcfc801346d6868124988f474d074b9760a2c1b42572') -- sqlite
INSERT INTO kv (namespace, key, value) VALUES ('example', 'state', '\x014fe43fcd008038dd5d9d283316c6c48de33c66e4d7c427f7bd60fe326148fd89fcfc801346d6868124988f474d074b9760a2c1b42572') -- postgres
;
