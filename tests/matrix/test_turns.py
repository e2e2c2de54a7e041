"""Turns: the bound of each key, the order of those who wait, and those who give up."""

import asyncio

from bridgekit.matrix.turns import Turns


async def test_so_many_at_once_of_each_key_and_the_others_in_their_order():
    turns: Turns[str] = Turns(2)
    came: list[int] = []

    async def come(number: int) -> None:
        await turns.take("room")
        came.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(come(number))
        await asyncio.sleep(0)
        assert came == [0, 1]
        await turns.take("other room")  # is another key's
        for number in range(2, 5):
            turns.give_back("room")
            await asyncio.sleep(0)
            assert came[-1] == number


async def test_who_gives_up_waiting_keeps_no_turn():
    turns: Turns[str] = Turns(1)
    await turns.take("room")
    waiting = [asyncio.create_task(turns.take("room")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # long before its turn
    await asyncio.sleep(0)
    turns.give_back("room")
    waiting[1].cancel()  # in the moment when its turn came
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, True, False]
    turns.give_back("room")
    await asyncio.wait_for(turns.take("room"), 5)
