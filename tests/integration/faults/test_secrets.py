"""The search for secrets of the fault run."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.faults_secrets import found_in

SECRET = b"Xf81kd02-aaq_LLmo3"


@pytest.mark.parametrize(
    "text",
    [
        b"token=" + SECRET + b".",
        SECRET.hex().encode(),
        SECRET.hex().upper().encode(),
        *(base64.b64encode(b"12345"[:before] + SECRET + b"after") for before in range(6)),
    ],
)
def test_secret_is_found_in_any_form(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "log").write_bytes(b"before\n" + text + b"\nafter\n")
    (tmp_path / "other").write_bytes(b"nothing here")

    assert found_in(tmp_path, [SECRET]) == [str(tmp_path / "below" / "log")]
