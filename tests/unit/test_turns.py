from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

from kubectl_vmredir.turns import in_turns


async def test_others_have_their_turn_in_between() -> None:
    order: list[str] = []

    def work() -> Iterator[int]:
        for number in range(8):
            order.append("item")
            yield number

    async def somebody_else() -> None:
        while True:
            order.append("else")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, aclosing(in_turns(work(), a_turn=3)) as given:
        other = group.create_task(somebody_else())
        items = [item async for item in given]
        other.cancel()

    assert items == list(range(8))
    assert order == [*["item"] * 3, "else", *["item"] * 3, "else", *["item"] * 2]


async def test_nothing_is_nothing() -> None:
    async with aclosing(in_turns(list[int]())) as given:
        assert [item async for item in given] == []
