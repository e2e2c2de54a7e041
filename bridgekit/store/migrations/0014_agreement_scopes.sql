-- What an agreement is about: the words that go to a link (`side`), or the files and long messages of the whole room that
-- are put under addresses of the bridge (`side` is the room itself then). Until now it was always the words.
ALTER TABLE agreements ADD COLUMN scope TEXT NOT NULL DEFAULT 'words';
