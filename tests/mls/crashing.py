"""A member in a process of its own that is killed at any moment: it keeps its group and its outbox in SQLite.

`python -m tests.mls.crashing send DATABASE` sends for ever; `... receive DATABASE` reads its inbox for ever.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

import bridgekit_mls as mls

SCHEMA = """
create table if not exists identity (exported blob not null);
create table if not exists records (name text primary key, value blob not null);
create table if not exists outbox (id integer primary key autoincrement, message blob not null);
create table if not exists inbox (id integer primary key autoincrement, message blob not null);
create table if not exists heard (id integer primary key, said blob not null);
"""


class Database:
    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self.connection.executescript("pragma journal_mode=wal; pragma synchronous=full;" + SCHEMA)

    def begin(self, identity: mls.Identity, group: mls.Group) -> None:
        self.connection.execute("begin")
        self.connection.execute("insert into identity values (?)", [identity.export()])
        self.save(group)
        self.connection.execute("commit")

    def group(self) -> mls.Group:
        ((exported,),) = self.connection.execute("select exported from identity")
        records = dict(self.connection.execute("select name, value from records"))
        return mls.Group.restore(mls.Identity.restore(exported), records)

    def save(self, group: mls.Group) -> None:
        """Within the transaction of what the changes belong to."""
        for name, value in group.take_changes().items():
            if value is None:
                self.connection.execute("delete from records where name = ?", [name])
            else:
                self.connection.execute("insert or replace into records values (?, ?)", [name, value])

    def put(self, table: str, message: bytes) -> None:
        self.connection.execute(f"insert into {table} (message) values (?)", [message])

    def after(self, table: str, last: int) -> list[tuple[int, bytes]]:
        return list(
            self.connection.execute(f"select id, message from {table} where id > ? order by id", [last])
        )

    def count(self, table: str) -> int:
        ((count,),) = self.connection.execute(f"select count(*) from {table}")
        return int(count)


def send(database: Database) -> None:
    """Every seventh message is a commit; each says its own number. Stored first, then it counts as sent."""
    group = database.group()
    if group.commit_pending:
        # It is in the outbox, stored in one transaction with this state, so it has been sent.
        merge(database, group)
    while True:
        number = database.count("outbox") + 1
        if number % 7 == 0:
            message = group.commit(update=True).message
        else:
            message = group.encrypt(b"%d" % number)
        database.connection.execute("begin immediate")
        database.save(group)
        database.put("outbox", message)
        database.connection.execute("commit")
        if group.commit_pending:
            merge(database, group)


def merge(database: Database, group: mls.Group) -> None:
    group.merge_commit()
    database.connection.execute("begin immediate")
    database.save(group)
    database.connection.execute("commit")


def receive(database: Database) -> None:
    """The key that a message used up goes in one transaction with what it said."""
    group = database.group()
    while True:
        waiting = database.after("inbox", database.count("heard"))
        for number, message in waiting:
            received = group.process(message)
            said = b""
            if isinstance(received, mls.Application):
                said = received.data
            elif isinstance(received, mls.ReceivedCommit):
                group.accept(received)
            database.connection.execute("begin immediate")
            database.save(group)
            database.connection.execute("insert into heard values (?, ?)", [number, said])
            database.connection.execute("commit")
        if not waiting:
            time.sleep(0.002)


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](Database(Path(sys.argv[2])))
