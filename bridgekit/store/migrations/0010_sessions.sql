-- The session that a room's session has replaced: of that one, too, it is still known who was given its key.
ALTER TABLE megolm_out ADD COLUMN before TEXT NOT NULL DEFAULT '';

-- Which event stands at which place of a session: a session is known by its room and its maker as well. Whoever has a
-- session's key can call it theirs, and must not take its places from the one who made it.
CREATE TABLE megolm_places (
    session  TEXT NOT NULL,
    room     TEXT NOT NULL,
    sender   TEXT NOT NULL,
    position BIGINT NOT NULL,
    event    TEXT NOT NULL,
    PRIMARY KEY (session, room, sender, position)
)
WITHOUT ROWID -- sqlite
;

INSERT INTO megolm_places (session, room, sender, position, event)
SELECT seen.session, made.room, made.sender, seen.position, seen.event
FROM megolm_seen AS seen JOIN megolm_in AS made ON made.session = seen.session;

DROP TABLE megolm_seen;

ALTER TABLE megolm_places RENAME TO megolm_seen;
