"""What is done to a testbed by a process inside it: ``python -m tests.support.usb_scenarios NAME``.

Each scenario prints what it saw, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing

from kubectl_vmredir.model import JsonValue, LocalDevice, UsbClass, to_json
from kubectl_vmredir.usb.discovery import list_devices
from kubectl_vmredir.usb.holders import drivers, find_holders
from kubectl_vmredir.usb.hotplug import Hotplug
from tests.support.usb_testbed import Testbed

_LIMIT_S = 10.0


def recorded() -> JsonValue:
    """List what is there, with drivers and holders."""
    return [
        {
            "device": to_json(device),
            "kind": device.kind,
            "drivers": list(drivers(device)),
            "holders": to_json(find_holders(device)),
        }
        for device in list_devices()
    ]


def empty() -> JsonValue:
    """List where there is a bus, and no device."""
    testbed = Testbed()
    testbed.plug("1-1", address=2, classes=[UsbClass(9, 0, 0)])
    return to_json(list_devices())


def twins() -> JsonValue:
    """List two devices that differ by their serial number and port only."""
    testbed = Testbed()
    testbed.plug("1-10", address=4, serial="TWIN1", product="Stick")
    testbed.plug("1-9", address=5, serial="TWIN2", product="Stick")
    return to_json(list_devices())


def odd() -> JsonValue:
    """List devices whose descriptors are broken, among one that is whole."""
    testbed = Testbed()
    testbed.plug("1-1", address=2, classes=[])
    testbed.plug("1-2", address=3, speed="what", serial='";$(id)')
    testbed.plug("1-3", address=4, idVendor="no hex")
    testbed.plug("1-4", address=5, product="p" * 10_000)
    return to_json(list_devices())


def silent() -> JsonValue:
    """List a device that should tell its texts and does not."""
    testbed = Testbed()
    testbed.plug("1-4", address=4, strings=b"\x01\x02\x03", product="Stick")
    return to_json(list_devices())


class _Watched:
    """A testbed and who follows it. umockdev keeps few events, so each is seen before the next."""

    def __init__(self) -> None:
        self.testbed = Testbed()
        self.hotplug = Hotplug(look=self._look)
        self._loop = asyncio.get_running_loop()
        self._looked = asyncio.Event()

    async def say(self, port: str, *events: str) -> None:
        """Say what happened, each event when the one before was heard."""
        for event in events:
            self._looked.clear()
            self.testbed.say(port, event)
            async with asyncio.timeout(_LIMIT_S):
                await self._looked.wait()

    def _look(self) -> list[LocalDevice]:
        found = list_devices()
        self._loop.call_soon_threadsafe(self._looked.set)
        return found


async def hotplug(source: str) -> JsonValue:
    """Plug, claim, unplug; return the serial numbers that were there after each change."""
    watched = _Watched()
    testbed = watched.testbed
    if source == "udev":
        testbed.start_udevd()
    testbed.plug("1-1", address=2, serial="OLD")
    story: list[JsonValue] = []
    async with watched.hotplug, aclosing(watched.hotplug.changes()) as changes:

        async def note_change() -> None:
            async with asyncio.timeout(_LIMIT_S):
                await anext(changes)
            story.append([device.serial for device in watched.hotplug.devices])

        testbed.plug("1-2", address=3, serial="NEW")
        await watched.say("1-2", "interface:bind", "add", "change", "interface:add", "bind")
        await note_change()
        # What a claim of ours does; then a device that tells where it ended.
        await watched.say("1-2", "interface:unbind", "change", "unbind", "bind", "interface:bind")
        testbed.plug("1-3", address=4, serial="LATER")
        await watched.say("1-3", "add")
        await note_change()
        testbed.unplug("1-2")
        await watched.say("1-2", "interface:unbind", "interface:remove", "remove", "unbind")
        testbed.forget("1-2")
        await note_change()
        testbed.plug("1-2", address=5, serial="NEW")
        await watched.say("1-2", "add")
        await note_change()
    return story


def main() -> None:
    """Run the scenario named, and print what it saw."""
    name, *arguments = sys.argv[1:]
    scenario = globals()[name]
    seen = scenario(*arguments)
    print(json.dumps(asyncio.run(seen) if asyncio.iscoroutine(seen) else seen))  # noqa: T201


if __name__ == "__main__":
    main()
