"""Eight redirections on a real control plane, each of whose servers goes away in turn.

``python -m tests.support.plane``, or ``make plane``. As root: pods have mount namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from kubectl_vmredir.model import to_json
from tests.support.plane.outages import FULL, SHORT
from tests.support.plane.play import play
from tests.support.plane.stage import BUSY, IDLE

_BEGAN: Final = time.monotonic()


def _say(line: str) -> None:
    sys.stderr.write(f"{time.monotonic() - _BEGAN:6.1f} s  {line}\n")


def main() -> int:
    """Run it; the status is 1 if a redirection did not come back by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.plane", description=__doc__)
    parser.add_argument("-o", "--output", choices=["json"], help="print one JSON object")
    parser.add_argument("--short", action="store_true", help="as in CI: short outages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmredir-") as folder:
        steps, devices = (SHORT, IDLE) if options.short else (FULL, BUSY)
        report = asyncio.run(play(Path(folder), steps, devices, _say))
    if options.output == "json":
        sys.stdout.write(json.dumps(to_json(report), indent=2) + "\n")
    else:
        sys.stdout.write(report.to_text() + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
