"""How a suspend is heard of: with a descriptor that stands for the wall clock, and the real one."""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import aclosing

import pytest

from kubectl_vmredir.service.suspend import open_steps, suspends


class Machine:
    """Its clocks, and a descriptor that tells when the wall clock makes a step."""

    def __init__(self) -> None:
        self.clocks = (10.0, 100.0)
        self.descriptor = -1

    def open_steps(self) -> int:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self.descriptor

    def sleep(self, seconds: float) -> None:
        awake_s, elapsed_s = self.clocks
        self.clocks = (awake_s, elapsed_s + seconds)
        self.set_clock()

    def set_clock(self) -> None:
        os.eventfd_write(self.descriptor, 1)


async def follow(machine: Machine, told: asyncio.Queue[float]) -> None:
    async with aclosing(suspends(machine.open_steps, lambda: machine.clocks)) as sleeps:
        async for slept_s in sleeps:
            told.put_nowait(slept_s)


async def test_each_suspend_is_told_with_its_length_and_a_clock_that_is_set_is_none() -> None:
    machine, told = Machine(), asyncio.Queue[float]()

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        following = group.create_task(follow(machine, told))
        await asyncio.sleep(0)
        machine.sleep(60)
        first = await told.get()
        machine.set_clock()
        await asyncio.sleep(0)
        machine.sleep(3600)
        second = await told.get()
        following.cancel()

    assert (first, second) == (60, 3600)


async def test_descriptor_is_closed_at_the_end() -> None:
    machine = Machine()

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        following = group.create_task(follow(machine, asyncio.Queue()))
        await asyncio.sleep(0)
        os.fstat(machine.descriptor)
        following.cancel()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(machine.descriptor)


def test_kernel_says_nothing_while_nobody_sets_the_clock() -> None:
    descriptor = open_steps()
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)

        assert poll.poll(0) == []
    finally:
        os.close(descriptor)
