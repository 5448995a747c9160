"""Which service a client wants: whose devices, which cluster, as which user of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.bootstrap import (
    LAB_VARIABLE,
    Options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KUBECONFIG: Final = "KUBECONFIG"


@dataclass(frozen=True, slots=True)
class Access:
    """What the user said, and where they said it.

    Attributes:
        options: What was said; files by their absolute paths.
        environ: Variables of the user's shell. Credential plugins may need any of them, and any
            may be a secret.
        expected: Names of those that there were in the shell that bound.
    """

    options: Options
    environ: Mapping[str, str] = field(repr=False)
    expected: tuple[str, ...] = ()

    @classmethod
    def here(cls, options: Options, environ: Mapping[str, str], cwd: Path) -> Access:
        """Return what is meant in a shell with these variables and this working folder."""
        variables = dict(environ)
        if listed := variables.get(_KUBECONFIG):
            paths = [str(cwd / path) for path in listed.split(os.pathsep) if path]
            variables[_KUBECONFIG] = os.pathsep.join(paths)
        if options.kubeconfig is not None:
            options = replace(options, kubeconfig=str(cwd / options.kubeconfig))
        return cls(options, variables)

    @property
    def key(self) -> AccessKey:
        """What is the same for all who may share a service."""
        return AccessKey(
            replace(self.options, namespace=None, request_timeout_s=None),
            self.environ.get(_KUBECONFIG, ""),
            self.environ.get(LAB_VARIABLE, ""),
        )


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Tells services apart; see :attr:`Access.key`."""

    options: Options
    kubeconfig: str
    lab: str

    def access(self, environ: Mapping[str, str]) -> Access:
        """Return an access with this key, with variables of another shell besides."""
        places = {_KUBECONFIG: self.kubeconfig, LAB_VARIABLE: self.lab}
        others = {name: value for name, value in environ.items() if name not in places}
        return Access(self.options, others | {name: it for name, it in places.items() if it})
