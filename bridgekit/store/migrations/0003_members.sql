-- When (ms) somebody of ours was last heard in the room, or let in; 0 where that was before it was kept.
ALTER TABLE members ADD COLUMN seen BIGINT NOT NULL DEFAULT 0;
