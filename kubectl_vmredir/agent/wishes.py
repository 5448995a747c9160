"""What the user wants to be bound, in a file: it outlives the agent, and the machine's uptime."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

# Their names are read off the annotations at run time.
from kubectl_vmredir.agent.access import AccessKey  # noqa: TC001
from kubectl_vmredir.agent.wire import codec_of, dump_line, load_line
from kubectl_vmredir.errors import AgentError, MessageMalformed
from kubectl_vmredir.service.kept import KeptWish  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from kubectl_vmredir.agent.wire import Codec

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
"""Raised whenever an older program would misunderstand the file of a newer one."""


@dataclass(frozen=True, slots=True)
class WishesOf:
    """What one user of one cluster wants.

    Attributes:
        key: Which service it is for. A token that was given by hand is a secret, and left out.
        wishes: What is wanted, oldest first.
        variables: Names, without the values, of variables that its credential plugin may need.
    """

    key: AccessKey
    wishes: tuple[KeptWish, ...]
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    schema: int
    redirections: tuple[WishesOf, ...]


@dataclass(frozen=True, slots=True)
class _Schema:
    schema: int


_FILE: Final[Codec[_File]] = codec_of(_File)
_SCHEMA: Final[Codec[_Schema]] = codec_of(_Schema)


class Wishes:
    """Keeps the file as the wishes are. It has one owner: the agent that runs.

    Args:
        path: The file; its folder is there, and for this user only.
        run: Does work that blocks.
        wall_clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: Callable[[Callable[[], None]], Awaitable[None]] = asyncio.to_thread,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._run = run
        self._wall_clock = wall_clock
        self._wishes: dict[AccessKey, WishesOf] = {}
        self._lock = asyncio.Lock()

    def load(self) -> Sequence[WishesOf]:
        """Read the file; one that is broken is kept aside, and said. Blocks.

        Raises:
            AgentError: If it cannot be read, or is of a newer version.
        """
        try:
            found = _parse(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise AgentError(f"cannot read {self._path}: {exc.strerror}") from exc
        except MessageMalformed as exc:
            aside = self._path.with_name(f"{self._path.name}.broken-{self._wall_clock():.0f}")
            self._path.replace(aside)
            logger.warning("what was bound is not known: %s; it is kept as %s", exc, aside)
            return ()
        self._wishes = {one.key: one for one in found}
        return found

    def of(self, key: AccessKey) -> tuple[KeptWish, ...]:
        """Return what is wanted of one service."""
        return self._wishes[key].wishes if key in self._wishes else ()

    def variables_of(self, key: AccessKey) -> tuple[str, ...]:
        """Return the names of variables that were noted with them."""
        return self._wishes[key].variables if key in self._wishes else ()

    async def put(
        self, key: AccessKey, wishes: tuple[KeptWish, ...], variables: tuple[str, ...] = ()
    ) -> None:
        """Replace what is wanted of one service; returns when it is on the disk.

        Args:
            key: Which service.
            wishes: What is wanted; none for nothing.
            variables: Names of variables that are noted with it.

        Raises:
            AgentError: If it cannot be written. It is tried again at the next change.
        """
        async with self._lock:
            fresh = WishesOf(key, wishes, variables)
            if fresh == self._wishes.get(key, WishesOf(key, (), variables)):
                return
            changed = {**self._wishes, key: fresh}
            kept = {key: one for key, one in changed.items() if one.wishes}
            await self._run(lambda: self._write(kept))
            self._wishes = kept

    def _write(self, kept: dict[AccessKey, WishesOf]) -> None:
        found = tuple(replace(one, key=_without_token(one.key)) for one in kept.values())
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(dump_line(_FILE, _File(SCHEMA, found)))
                file.flush()
                os.fsync(descriptor)
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            raise AgentError(f"cannot write {self._path}: {exc.strerror}") from exc


def anything_wanted(path: Path) -> bool:
    """Return whether a file says that something is wanted. Blocks.

    What cannot be read or understood may say so: the agent tells what is wrong with it.
    """
    try:
        return bool(_parse(path.read_bytes()))
    except FileNotFoundError:
        return False
    except (OSError, AgentError):
        return True


def _parse(data: bytes) -> tuple[WishesOf, ...]:
    if (schema := load_line(_SCHEMA, data).schema) > SCHEMA:
        raise AgentError(
            f"what was bound was written by a newer version (schema {schema}, not {SCHEMA})",
            hint="Use that version, or unbind with it first.",
        )
    return load_line(_FILE, data).redirections


def _without_token(key: AccessKey) -> AccessKey:
    return replace(key, options=replace(key.options, token=None))
