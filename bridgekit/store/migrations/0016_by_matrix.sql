-- Whose no it is: that of Matrix's side of a link was known by its wording until now.
ALTER TABLE consents ADD COLUMN by_matrix BIGINT NOT NULL DEFAULT 0;

UPDATE consents SET by_matrix = 1 WHERE granted = 0 AND wording = '!bridge revoke, in the Matrix room';
