"""Looks for secrets in files, in whatever form a program may have written them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield what a secret looks like: as it is, in hex, in base64 at each offset."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for offset in range(3):
        # What the bytes around it have a share in is left out.
        encoded = base64.b64encode(bytes(offset) + secret + bytes(2))
        yield encoded[4 if offset else 0 :][: len(secret) * 4 // 3 - 4]


def found_in(folder: Path, secrets: Iterable[bytes]) -> list[str]:
    """Return which files below a folder hold one of the secrets."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return [
        str(path) for path in sorted(folder.rglob("*")) if path.is_file() and _holds(path, wanted)
    ]


def _holds(path: Path, wanted: Iterable[bytes]) -> bool:
    text = path.read_bytes()
    return any(form in text for form in wanted)
