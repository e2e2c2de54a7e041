-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

-- A name can have opted out by itself and with the account of whoever bore it then; each of these wishes stands alone.
CREATE TABLE optout_wishes (
    network TEXT NOT NULL,
    person  TEXT NOT NULL,
    account TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (network, person, account)
)
WITHOUT ROWID -- sqlite
;

INSERT INTO optout_wishes (network, person, account, at) SELECT network, person, account, at FROM optouts;

DROP TABLE optouts;

ALTER TABLE optout_wishes RENAME TO optouts;
