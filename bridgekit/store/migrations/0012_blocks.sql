-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

-- Who takes no private messages: of the Matrix user `owner`, or ('') of anybody there.
CREATE TABLE blocks (
    network TEXT NOT NULL,
    person  TEXT NOT NULL,
    owner   TEXT NOT NULL,
    account TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (network, person, owner)
)
WITHOUT ROWID -- sqlite
;
