"""``python -m benchmarks.screen_of_many VMS DEVICES``: the program with so much to show."""

from __future__ import annotations

import asyncio
import dataclasses
import sys

from kubectl_vmredir.model import VmiRef
from kubectl_vmredir.tui.app import run
from tests.support.scripted_service import (
    STICK,
    ScriptedService,
    entrance_to,
    redirection,
    vmi,
)


def main() -> None:
    """Show them until a key or a signal ends it."""
    vms, devices = map(int, sys.argv[1:])
    service = ScriptedService()
    service.there = [
        vmi(VmiRef("demo", f"vm-{number:05}"), "flash", "token", node=f"node-{number % 7}")
        for number in range(vms)
    ]
    service.plugged = [
        dataclasses.replace(STICK, serial=f"S{number:04}", port_path=f"1-{number}", address=number)
        for number in range(1, devices + 1)
    ]
    service.redirect(redirection(service.plugged[0], VmiRef("demo", "vm-00000")))
    asyncio.run(run(entrance_to(service)))


if __name__ == "__main__":
    main()
