-- What protected a message when it was said, so that an answer to it carries its words no further (Protection in
-- bridgekit/contract/policy.py). Of older messages it is not known: they count as secret.
ALTER TABLE copies ADD COLUMN protection BIGINT NOT NULL DEFAULT 3;
