"""The YAML of a kubeconfig, read with care: nothing is taken that is not of the expected type."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any

from kubectl_vmredir.errors import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class ConfigNode:
    """A mapping of a kubeconfig that knows where it stands."""

    def __init__(self, fields: Mapping[Any, Any], where: str, folder: Path) -> None:
        self._fields = fields
        self._where = where
        self._folder = folder

    def text(self, key: str) -> str:
        """Return a text; empty if it is not set."""
        value = self._fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.broken(f"{key} is not a text")
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean; False if it is not set."""
        value = self._fields.get(key, False)
        if not isinstance(value, bool):
            raise self.broken(f"{key} is not true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty if it is not set."""
        value = self._fields.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.broken(f"{key} is not a list of texts")
        return tuple(value)

    def path(self, key: str) -> Path | None:
        """Return a path, relative to the file that it stands in."""
        text = self.text(key)
        return self._folder / text if text else None

    def data(self, key: str) -> bytes:
        """Return what stands there in base64."""
        try:
            return base64.b64decode(self.text(key), validate=False)
        except (binascii.Error, ValueError) as exc:
            raise self.broken(f"{key} is not base64") from exc

    def command(self, key: str) -> str:
        """Return a command; one with a slash is relative to the file that it stands in."""
        text = self.text(key)
        return str(self._folder / text) if os.sep in text else text

    def node(self, key: str) -> ConfigNode | None:
        """Return a mapping; None if it is not set."""
        value = self._fields.get(key)
        if value is None:
            return None
        return self._child(value, key)

    def nodes(self, key: str) -> Iterator[ConfigNode]:
        """Yield the mappings of a list; none if it is not set."""
        value = self._fields.get(key) or []
        if not isinstance(value, list):
            raise self.broken(f"{key} is not a list")
        for item in value:
            yield self._child(item, f"an entry of {key}")

    def raw(self, key: str) -> Any:  # noqa: ANN401 - passed on as it stands
        """Return whatever stands there."""
        return self._fields.get(key)

    def broken(self, what: str) -> KubeconfigError:
        """Return the error that says what is wrong here."""
        return KubeconfigError(
            f"broken kubeconfig {self._where}: {what}",
            hint="Check the file with: kubectl config view",
        )

    def _child(self, value: Any, what: str) -> ConfigNode:  # noqa: ANN401 - checked here
        if not isinstance(value, dict):
            raise self.broken(f"{what} is not a mapping")
        return ConfigNode(value, self._where, self._folder)
