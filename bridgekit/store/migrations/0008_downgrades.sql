-- Which way words may go by an agreement, and down to which protection. Of older agreements that was not kept: they cover
-- nothing until somebody agrees anew.
ALTER TABLE agreements ADD COLUMN toward TEXT NOT NULL DEFAULT '';
ALTER TABLE agreements ADD COLUMN least BIGINT NOT NULL DEFAULT 3;
