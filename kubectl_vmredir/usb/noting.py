"""What a usb-host has to say that is not for the VM."""

from __future__ import annotations

import contextlib
import os


def note(text: str) -> None:
    """Write a line to stderr, which the parent reads; lost if it does not."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace") + b"\n")
