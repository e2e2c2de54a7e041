-- Strangers of whom an operator has said whether what they say in a chat is passed on.
CREATE TABLE nods (
    network  TEXT NOT NULL,
    chat     TEXT NOT NULL,
    person   TEXT NOT NULL,
    name     TEXT NOT NULL,
    accepted BIGINT NOT NULL,
    by_whom  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (network, chat, person)
);
