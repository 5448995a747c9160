"""The frozen program: what runs when somebody types ``kubectl vmredir``.

Its bootloader has the libraries of the program found by way of the environment. The loader of this
process has read that already; whatever the program starts is to have what the user's shell had.
"""

from __future__ import annotations

import os
import sys
from typing import Final

_LIBRARIES: Final = "LD_LIBRARY_PATH"
_OWN: Final = "_PYI_"
"""What the bootloader tells itself, in variables that begin so."""


def main() -> int:
    """Run the program and return its exit status."""
    original = os.environ.pop(f"{_LIBRARIES}_ORIG", None)
    os.environ.pop(_LIBRARIES, None)
    if original is not None:
        os.environ[_LIBRARIES] = original
    for name in [name for name in os.environ if name.startswith(_OWN)]:
        del os.environ[name]

    from kubectl_vmredir.__main__ import main as program

    return program()


if __name__ == "__main__":
    sys.exit(main())
