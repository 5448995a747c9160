from __future__ import annotations

import asyncio

import pytest

from kubectl_vmredir.lab.race import race


async def instantly(value: str) -> str:
    return value


async def test_the_first_wins_and_the_others_are_cancelled() -> None:
    cancelled = asyncio.Event()

    async def never() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "never"

    assert await race(never(), instantly("now")) == "now"
    assert cancelled.is_set()


async def test_of_two_at_the_same_time_the_first_in_order_wins() -> None:
    assert await race(instantly("one"), instantly("two")) == "one"


async def test_what_a_runner_raises_comes_out() -> None:
    async def broken() -> str:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await race(broken(), asyncio.sleep(60, "late"))
    assert caught.group_contains(ZeroDivisionError)
