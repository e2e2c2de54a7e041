"""A process that commits as fast as it can and says which commits were acknowledged: `writing_child URL KEY_FILE`."""

import asyncio
import os
import sys

from bridgekit.store import SealingKey, Store, new_id
from tests.store.samples import copies_of, inbox_row


async def main(url: str, key_file: str) -> None:
    store = await Store.open(url, SealingKey.load_or_create(key_file))

    async def messages() -> None:
        while True:
            row = inbox_row(b"x" * 200)
            left = inbox_row(b"y" * 200, id=new_id())
            await store.commit(store.inbox.add(row), store.inbox.add(left))
            here, there = copies_of(row.id, str(row.id))
            await store.commit(store.copies.add(here), store.copies.add(there), store.inbox.done(row.id))
            # One write to a pipe below PIPE_BUF is whole or not there.
            os.write(1, b"%d %d\n" % (row.id, left.id))

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(messages())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
