"""``python -m kubectl_vmredir``, and the command ``kubectl-vmredir``."""

from __future__ import annotations

import sys
from typing import Final

_INTERRUPTED: Final = 130
"""As ``ExitCode.INTERRUPTED``, which may not have been imported yet."""

_USB_HOST: Final = "usb-host"
"""As ``kubectl_vmredir.usb.child.NAME``, likewise."""

_LAB_COMPONENT: Final = "lab-component"
"""As ``kubectl_vmredir.lab.child.NAME``, likewise."""

_COMPLETE: Final = "__complete"
"""As ``kubectl_vmredir.cli.completing.NAME``, likewise."""


def main() -> int:
    """Run the command and return its exit status; a ctrl-c may come while it is still loaded."""
    try:
        match sys.argv[1:]:
            case [name, *arguments] if name == _USB_HOST:
                from kubectl_vmredir.usb import child as usb_host

                return usb_host.main(arguments)
            case [name, *arguments] if name == _LAB_COMPONENT:
                from kubectl_vmredir.lab import child as lab_component

                return lab_component.main(arguments)
            case [name, *words] if name == _COMPLETE:
                from kubectl_vmredir.cli import completing

                return completing.main(words)
            case _:
                _give_back_what_is_left()

                from kubectl_vmredir.cli import main as command

                return command.main()
    except KeyboardInterrupt:
        return _INTERRUPTED


def _give_back_what_is_left() -> None:
    """Begin with the devices of former processes: the rest takes longer to load than they need."""
    from pathlib import Path

    from kubectl_vmredir.usb import leftover

    leftover.begin_to_give_back(leftover.claims_folder(), root=Path("/"))


if __name__ == "__main__":
    sys.exit(main())
