"""``python -m kubectl_vmredir``, and the command ``kubectl-vmredir``."""

from __future__ import annotations

import sys
from typing import Final

_INTERRUPTED: Final = 130
"""As ``ExitCode.INTERRUPTED``, which may not have been imported yet."""

_USB_HOST: Final = "usb-host"
"""As ``kubectl_vmredir.usb.child.NAME``, likewise."""


def main() -> int:
    """Run the command and return its exit status; a ctrl-c may come while it is still loaded."""
    try:
        if sys.argv[1:2] == [_USB_HOST]:
            from kubectl_vmredir.usb import child

            return child.main(sys.argv[2:])
        from kubectl_vmredir.cli import main as command

        return command.main()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
