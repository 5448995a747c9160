from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from kubectl_vmredir.usb.threads import MOST_THREADS, in_thread

LIMIT_S = 5.0

HANGS = """
import asyncio, contextlib, threading
from kubectl_vmredir.usb.threads import in_thread

async def main():
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(threading.Event().wait, name="hangs")
    print("given up")

asyncio.run(main())
"""


async def test_what_a_call_returns_is_returned() -> None:
    assert await in_thread(lambda: threading.current_thread().name, name="usb-x") == "usb-x"


async def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, name="fails")


def test_a_call_that_hangs_keeps_no_program_from_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], check=True, capture_output=True, text=True, timeout=30
    )

    assert (done.stdout, done.stderr) == ("given up\n", "")


async def test_calls_that_hang_do_not_become_ever_more_threads() -> None:
    answer = threading.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(MOST_THREADS + 3):
            group.create_task(in_thread(answer.wait, name="hangs"))
        await asyncio.sleep(0)
        hanging = [thread for thread in threading.enumerate() if thread.name == "hangs"]
        answer.set()

    assert len(hanging) == MOST_THREADS


async def test_a_call_that_was_given_up_makes_room_when_it_comes_back() -> None:
    for _ in range(MOST_THREADS + 1):
        answer = threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await in_thread(answer.wait, name="hangs")
        answer.set()

    async with asyncio.timeout(LIMIT_S):
        assert await in_thread(lambda: "room", name="usb-x") == "room"
