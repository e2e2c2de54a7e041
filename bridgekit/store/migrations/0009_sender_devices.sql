-- The keys of the device that made a session, as they came along with it: it may be signed out before what it said is read.
ALTER TABLE megolm_in ADD COLUMN device BLOB;  -- sqlite
ALTER TABLE megolm_in ADD COLUMN device BYTEA; -- postgres
