from __future__ import annotations

import asyncio
from contextlib import aclosing

from kubectl_vmredir.turns import in_turns


async def test_others_have_their_turn_in_between() -> None:
    turns: list[int] = []
    items: list[int] = []

    async def somebody_else() -> None:
        while True:
            turns.append(len(items))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, aclosing(in_turns(range(10), a_turn=3)) as given:
        other = group.create_task(somebody_else())
        async for item in given:
            items.append(item)
        other.cancel()

    assert items == list(range(10))
    assert turns[:3] == [3, 6, 9]


async def test_nothing_is_nothing() -> None:
    async with aclosing(in_turns([])) as given:
        assert [item async for item in given] == []
