"""``python -m kubectl_vmredir.lab.guests.image``: builds the guest image, if it is not there."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from kubectl_vmredir.errors import ExitCode, LabError
from kubectl_vmredir.lab.guests.image.build import build, default_folder


def main() -> int:
    """Build, and say where the image is."""
    parser = argparse.ArgumentParser(prog="kubectl_vmredir.lab.guests.image", description=__doc__)
    parser.add_argument("--folder", type=Path, default=default_folder())
    folder: Path = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        image = build(folder)
    except LabError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    sys.stdout.write(f"{image.kernel}\n{image.initrd}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
