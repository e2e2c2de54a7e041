-- A line that ends with "-- sqlite" or "-- postgres" is for that database alone.

-- Which rows of the inbox edit or take back an earlier message, and which one, by its id on their own side: so a
-- message that waits far before them is said as it was edited, or not at all.
CREATE TABLE amendments (
    number BIGINT PRIMARY KEY,
    target TEXT NOT NULL
)
WITHOUT ROWID -- sqlite
;
