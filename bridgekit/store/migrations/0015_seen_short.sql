-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

-- Which event stands at which place of a session: there is a row for each encrypted message, for good. So of the session,
-- its room and its maker, and of the event's id, 16 octets of a hash are kept, and nobody's name.
CREATE TABLE megolm_marks (
    place    BLOB NOT NULL,  -- sqlite
    place    BYTEA NOT NULL, -- postgres
    position BIGINT NOT NULL,
    event    BLOB NOT NULL,  -- sqlite
    event    BYTEA NOT NULL, -- postgres
    PRIMARY KEY (place, position)
)
WITHOUT ROWID -- sqlite
;

INSERT INTO megolm_marks (place, position, event)
SELECT substr(sha256(CAST(session || ' ' || room || ' ' || sender AS BLOB)), 1, 16), -- sqlite
SELECT substr(sha256(convert_to(session || ' ' || room || ' ' || sender, 'UTF8')), 1, 16), -- postgres
position,
substr(sha256(CAST(event AS BLOB)), 1, 16) -- sqlite
substr(sha256(convert_to(event, 'UTF8')), 1, 16) -- postgres
FROM megolm_seen;

DROP TABLE megolm_seen;

ALTER TABLE megolm_marks RENAME TO megolm_seen;

-- A device that is forgotten takes its sessions along, without a look at everybody's.
CREATE INDEX megolm_in_by_sender ON megolm_in (sender);
