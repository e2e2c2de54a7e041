-- What the people of encrypted Matrix rooms agreed to lose on their way to a network: those that ended stay.
CREATE TABLE agreements (
    id       INTEGER PRIMARY KEY, -- sqlite
    id       BIGINT PRIMARY KEY,  -- postgres
    room     TEXT NOT NULL,
    network  TEXT NOT NULL,
    chat     TEXT NOT NULL,
    receiver TEXT NOT NULL,
    person   TEXT NOT NULL,
    at       BIGINT NOT NULL,
    wording  TEXT NOT NULL,
    ended    BIGINT NOT NULL,
    ended_by TEXT NOT NULL
);
