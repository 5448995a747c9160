"""What the installed plugin does, with no Python of ours in reach."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click
import pytest

from kubectl_vmredir import __version__
from kubectl_vmredir.cli.main import cli as commands
from tests.support.commands import LIMIT_S, Cli
from tests.support.krew import Krew
from tests.support.terminals import on_a_terminal

pytestmark = [pytest.mark.packaged, pytest.mark.asyncio(loop_scope="module")]

STICK: Final = "1209:0001:FLASH001"
COMPLETION_SINCE: Final = (1, 26)
"""The first kubectl that asks plugins what the tab key may complete."""


async def test_it_tells_its_version_and_the_usage_of_each_command(plugin: Cli) -> None:
    names = commands.list_commands(click.Context(commands))

    version = await plugin("version")
    usages = [await plugin(name, "--help") for name in names]

    assert version.out == f"kubectl-vmredir {__version__}\n"
    for name, usage in zip(names, usages, strict=True):
        assert usage.status == 0, usage.err
        assert usage.out.startswith(f"Usage: kubectl vmredir {name} ")


async def test_libusb_and_libusbredirhost_are_its_own_and_libudev_is_the_systems(
    plugin: Cli, krew: Krew
) -> None:
    done = await plugin("doctor", "-o", "json")

    checks = {check["name"]: check["message"] for check in json.loads(done.out)["items"]}
    own = krew.installed / "_internal"
    assert checks["libusb"].endswith(f"loaded from {own / 'libusb-1.0.so.0'}")
    assert checks["libusbredirhost"].endswith(f"loaded from {own / 'libusbredirhost.so.1'}")
    assert re.search(r"loaded from (/usr)?/lib", checks["libudev"])


async def test_its_unit_outlasts_an_upgrade(plugin: Cli, krew: Krew) -> None:
    done = await plugin("agent", "unit")

    link = krew.root / "bin" / "kubectl-vmredir"
    assert f"ExecStart={link} agent run --keep\n" in done.out


async def test_it_serves_a_device_in_a_process_of_its_own(krew: Krew, a_file: BinaryIO) -> None:
    """A node that is no device gets as far as libusb's own answer."""
    data, far_data = socket.socketpair()
    control, far_control = socket.socketpair()
    node = os.open(os.devnull, os.O_RDWR)
    named = {
        "data": far_data.fileno(),
        "control": far_control.fileno(),
        "node": node,
        "journal": a_file.fileno(),
    }
    control.setblocking(False)

    process = await asyncio.create_subprocess_exec(
        krew.installed / "kubectl-vmredir",
        "usb-host",
        *(f"--{name}={descriptor}" for name, descriptor in named.items()),
        "--root=/",
        "--limit=10",
        pass_fds=tuple(named.values()),
        env={},
    )
    async with asyncio.timeout(LIMIT_S):
        said = json.loads(await asyncio.get_running_loop().sock_recv(control, 4096))
        status = await process.wait()

    for end in (data, far_data, control, far_control):
        end.close()
    os.close(node)
    assert said == {
        "event": "error",
        "message": "the device cannot be opened: LIBUSB_ERROR_IO",
    }
    assert status == 0


@pytest.fixture
def a_file(tmp_path: Path) -> Iterator[BinaryIO]:
    """An empty file."""
    with (tmp_path / "journal").open("w+b") as file:
        yield file


def ours_among(variables: Path) -> dict[str, str]:
    """Return the variables that the program's own start has to do with, out of a file."""
    lines = (line.partition("=") for line in variables.read_text().splitlines())
    return {
        name: value
        for name, _, value in lines
        if name.startswith(("LD_LIBRARY_PATH", "_PYI", "OPENSSL"))
    }


async def test_a_device_is_bound_by_the_agent_with_credentials_of_a_program(
    plugin: Cli, seen_by_children: Path
) -> None:
    bound = await plugin("bind", STICK, "desk/flash", "--virtual")
    shown = await plugin("status", "--no-headers")
    unbound = await plugin("unbind", "desk/flash")
    stopped = await plugin("agent", "stop")

    assert bound.status == 0, bound.err
    assert [{STICK, "connected"} <= {*row} for row in shown.rows] == [True]
    assert unbound.status == 0, unbound.err
    assert stopped.status == 0, stopped.err
    assert ours_among(seen_by_children) == {"LD_LIBRARY_PATH": "/of/the/user"}


async def test_the_screen_is_drawn(plugin: Cli) -> None:
    async with on_a_terminal(plugin, "--virtual", "--foreground", "-n", "demo") as terminal:
        await terminal.says("Virtual Stick")

        terminal.terminate()

        assert await terminal.end() == 128 + signal.SIGTERM


async def test_the_demo_ends_well(plugin: Cli) -> None:
    done = await plugin("demo", "--headless", "--backend", "sim", "--migrations", "1")

    assert done.status == 0, done.err
    assert done.out.endswith("ok: true\n")


async def test_a_lab_of_several_processes_runs_a_command(plugin: Cli) -> None:
    done = await plugin("lab", "up", "--split", "--backend", "sim", "--", "kubectl", "get", "vmi")

    assert done.status == 0, done.err
    assert [row[0] for row in done.rows] == ["NAME", "fedora", "plain", "win11"]


@pytest.fixture
def shell(plugin: Cli, krew: Krew) -> Cli:
    """Any program, in a shell where the tab key was set up."""
    folder = krew.root / "bin"
    subprocess.run(
        [*plugin.program, "completion", "--install", "--folder", folder],
        env=plugin.variables,
        check=True,
        capture_output=True,
    )
    return dataclasses.replace(plugin, program=("env",))


async def test_the_tab_key_offers_commands_devices_and_slots(shell: Cli) -> None:
    asked = "kubectl_complete-vmredir"

    command = await shell(asked, "bi")
    device = await shell(asked, "bind", "--virtual", "1209:0001:")
    slot = await shell(asked, "bind", STICK, "desk/f")

    assert [row[0] for row in command.rows] == ["bind", ":4"]
    assert [row[0] for row in device.rows] == [STICK, "1209:0001:FLASH002", ":4"]
    assert [row[0] for row in slot.rows] == ["desk/flash", ":4"]


async def test_kubectl_asks_it_what_the_tab_key_may_complete(shell: Cli) -> None:
    said = json.loads((await shell("kubectl", "version", "--client", "-o", "json")).out)
    version = said["clientVersion"]
    if (int(version["major"]), int(version["minor"].rstrip("+"))) < COMPLETION_SINCE:
        pytest.skip(f"kubectl {version['gitVersion']} does not ask its plugins")

    done = await shell("kubectl", "__complete", "vmredir", "bi")

    assert [row[0] for row in done.rows] == ["bind", ":4"]
