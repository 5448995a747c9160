"""``kubectl-vmredir lab-component``: one component of a lab as a process of its own.

It ends when its standard input does, so that it never outlives whoever started it. The API server
says its URL on stdout as soon as it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ExitCode, VmRedirError
from kubectl_vmredir.lab.backends import Backend, hypervisor
from kubectl_vmredir.lab.components import Endpoint, Kubeconfigs, run_controllers, run_node
from kubectl_vmredir.lab.nodes.means import NodeOptions
from kubectl_vmredir.lab.race import race
from kubectl_vmredir.lab.timeline import MIN_NODE_NAME_GAP_S, Dialect

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

logger = logging.getLogger(__name__)

NAME: Final = "lab-component"
"""First argument of the program that starts it."""


async def run_api(folder: Path, port: int) -> None:
    """Serve the API, and write the kubeconfigs of all users into the folder."""
    # Here, so that the other components need not load a web server and cryptography.
    from kubectl_vmredir.lab.api.server import ApiServer

    async with ApiServer(folder, port=port) as server:
        Kubeconfigs.in_folder(folder).write(server)
        print(server.url, flush=True)  # noqa: T201 - for whoever started this
        await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"kubectl-vmredir {NAME}", description=__doc__)
    commands = parser.add_subparsers(dest="component", required=True)
    api = commands.add_parser("api")
    api.add_argument("--folder", type=Path, default=Path())
    api.add_argument("--port", type=int, default=0)
    client = argparse.ArgumentParser(add_help=False)
    client.add_argument("--server", required=True)
    client.add_argument("--kubeconfig", type=Path, required=True)
    commands.add_parser("controllers", parents=[client])
    node = commands.add_parser("node", parents=[client])
    node.add_argument("name")
    node.add_argument("--folder", type=Path, default=Path())
    node.add_argument("--backend", type=Backend, choices=list(Backend), default=Backend.SIM)
    node.add_argument("--dialect", type=Dialect, choices=list(Dialect), default=Dialect.TARGET_ACKS)
    node.add_argument("--node-name-gap", type=float, default=MIN_NODE_NAME_GAP_S, metavar="S")
    return parser


def _component(options: argparse.Namespace) -> Coroutine[object, object, None]:
    if options.component == "api":
        return run_api(options.folder.absolute(), options.port)
    endpoint = Endpoint(options.kubeconfig, options.server)
    if options.component == "controllers":
        return run_controllers(endpoint)
    return run_node(
        options.name,
        options.folder.absolute(),
        endpoint,
        functools.partial(hypervisor, options.backend),
        options=NodeOptions(options.dialect, options.node_name_gap),
    )


async def _stdin_ends() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1 << 16):
        pass


def _leaves(group: ExceptionGroup[VmRedirError]) -> Iterator[VmRedirError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def main(argv: Sequence[str]) -> int:
    """Run one component and return the exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(race(_component(options), _stdin_ends()))
    except ExceptionGroup as group:
        expected, bugs = group.split(VmRedirError)
        if bugs is not None:
            raise bugs from None
        assert expected is not None
        for error in _leaves(expected):
            logger.error("%s", error)
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK
