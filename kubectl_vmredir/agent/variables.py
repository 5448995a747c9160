"""The variables of the shell that bound: credential plugins may need any of them.

Their values are in memory only. Of what was bound the names are written down, so that a user whose
plugin fails after a restart of the agent can be told which variables it may miss.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAMES: Final = 200
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

_OF_ANY_SHELL: Final = re.compile(
    r"_|COLORTERM|DISPLAY|EDITOR|HOME|HOSTNAME|KUBECONFIG|LANG(UAGE)?|LESS.*|LOGNAME|LS_COLORS|MAIL"
    r"|OLDPWD|PAGER|PATH|PWD|SHELL|SHLVL|TERM|TZ|USER|VISUAL|VMREDIR_.*|WAYLAND_DISPLAY|WINDOWID"
    r"|(DBUS|DESKTOP|GDM|GNOME|GPG|GTK|JOURNAL|KDE|KONSOLE|LC|PYTHON|QT|SSH|STY|SYSTEMD|TERM|TMUX"
    r"|VTE|XDG)_.*"
)
"""They say where a shell runs, and not who the user is to a cluster."""


class Variables:
    """The variables of one service, replaced by those of other shells as long as that helps.

    Attributes:
        values: As they are now; changed in place, for whoever holds them.
        names: Which of them there were in the shell that bound.
    """

    def __init__(self, values: Mapping[str, str], names: tuple[str, ...] = ()) -> None:
        self.values = dict(values)
        self.names = names

    def offer(self, values: Mapping[str, str]) -> None:
        """Take those of another shell, unless they lack what these do not."""
        if self._lacking(values) <= self._lacking(self.values):
            self._replace(values)

    def bind(self, values: Mapping[str, str]) -> None:
        """Take those of the shell that binds now."""
        self._replace(values)
        self.names = _telling(values)

    def _replace(self, values: Mapping[str, str]) -> None:
        self.values.clear()
        self.values.update(values)

    def _lacking(self, values: Mapping[str, str]) -> set[str]:
        return {name for name in self.names if name not in values}


def _telling(values: Mapping[str, str]) -> tuple[str, ...]:
    names = (name for name in values if _NAME.fullmatch(name) and not _OF_ANY_SHELL.fullmatch(name))
    return tuple(sorted(names)[:MAX_NAMES])
