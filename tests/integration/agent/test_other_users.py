"""Another local user cannot talk to the agent, whatever became of the permissions of its files."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.messages import HELLO, PROTOCOL, Hello
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.start import reach_agent
from kubectl_vmredir.agent.wire import dump_line
from kubectl_vmredir.errors import AgentError
from tests.support.commands import LIMIT_S

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

NOBODY: Final = 65534
GREETING: Final = dump_line(HELLO, Hello(PROTOCOL, "0", 1)).decode()
QUESTION: Final = '{"type":"Call","id":1,"method":"status","arguments":{}}\n'

AS_NOBODY: Final = f"""
import os, socket, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout({LIMIT_S})
    try:
        client.connect(sys.argv[1])
        client.sendall(sys.argv[2].encode())
        print(client.recv(1000))
    except OSError as error:
        print(type(error).__name__)
"""


async def nobody_hears(path: Path) -> str:
    """Talk to a socket as another user, and return what comes of it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", AS_NOBODY, str(path), GREETING + QUESTION),
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, _ = await process.communicate()
    return out.decode().strip()


def open_to_all(path: Path, *, below: Path) -> None:
    """Let everybody enter all folders of a path, as far as they are below another one."""
    for folder in path.parents:
        if folder.is_relative_to(below):
            folder.chmod(0o755)


async def test_another_user_gets_no_word_out_of_the_agent(home: Path) -> None:
    places = Places.of_user()
    async with reach_agent(places) as line:
        assert await nobody_hears(places.socket) == "PermissionError"

        open_to_all(places.socket, below=home)
        assert await nobody_hears(places.socket) == "PermissionError"

        places.socket.chmod(0o666)
        assert await nobody_hears(places.socket) in (
            "b''",
            "ConnectionResetError",
            "BrokenPipeError",
        )

        client = AgentClient(line)
        assert (await client.status()).clients == 1
        await client.stop()


async def test_another_user_cannot_put_a_socket_where_the_agent_is_looked_for(home: Path) -> None:
    places = Places.of_user()
    places.prepare()
    os.chown(places.runtime, NOBODY, NOBODY)

    with pytest.raises(AgentError, match="is not a folder of yours"):
        async with reach_agent(places):
            pass
