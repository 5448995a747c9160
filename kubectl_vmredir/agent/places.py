"""Where the agent's files are, and that nobody else can get at them."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import platformdirs

from kubectl_vmredir.errors import AgentError

_NAME: Final = "kubectl-vmredir"
_BACKLOG: Final = 64


@dataclass(frozen=True, slots=True)
class Places:
    """Files of one agent.

    Attributes:
        runtime: Folder of what ends with the login, or the machine.
        state: Folder of what stays.
    """

    runtime: Path
    state: Path

    @classmethod
    def of_user(cls) -> Self:
        """Return the places of this user: by the XDG base directory specification."""
        return cls(_runtime_folder(), platformdirs.user_state_path(_NAME))

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return self.runtime / "agent.sock"

    @property
    def lock(self) -> Path:
        """Locked by the one agent that runs."""
        return self.runtime / "agent.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by a client as long as it starts the agent."""
        return self.runtime / "start.lock"

    @property
    def log(self) -> Path:
        """The log of the agent; older ones have a number behind."""
        return self.state / "agent.log"

    @property
    def wishes(self) -> Path:
        """What the user wants to be bound."""
        return self.state / "redirections.json"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            AgentError: If one cannot be made, or somebody else can get at it.
        """
        for folder in (self.runtime, self.state):
            make_private(folder)


def _runtime_folder() -> Path:
    # Not platformdirs', which warns, and trusts a folder of that name in /tmp.
    of_user = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if os.path.isdir(of_user):  # unlike Path's it is no error if it is out of reach, as after su
        return Path(of_user) / _NAME
    return Path("/tmp") / f"{_NAME}-{os.geteuid()}"  # noqa: S108 - make_private() looks at it


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, or see that it is one.

    Raises:
        AgentError: If it cannot be made, or somebody else can get at it.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_parent(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise AgentError(f"{folder} is not a folder of yours", hint=f"Remove it: {folder}")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as exc:
        raise AgentError(f"cannot use {folder}: {exc.strerror}") from exc


def _check_parent(folder: Path) -> None:
    """Return if nobody but us, or root, can put another folder in the place of one in it.

    Raises:
        AgentError: If somebody can.
    """
    found = folder.stat()
    shared = stat.S_IMODE(found.st_mode) & 0o022 and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or shared:
        raise AgentError(
            f"other users can write to {folder}",
            hint="Set XDG_RUNTIME_DIR and XDG_STATE_HOME to folders of your own.",
        )


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path, where a socket that nobody listens at may be.

    Whoever calls it holds the lock: no other agent does.

    Raises:
        AgentError: If it cannot listen there.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError as exc:
        listening.close()
        # "AF_UNIX path too long" is an error of Python, without an errno.
        raise AgentError(f"cannot listen at {path}: {exc.strerror or exc}") from exc
    return listening


def is_listening(path: Path) -> bool:
    """Return whether somebody listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
