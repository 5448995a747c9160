"""A sysfs of umockdev's, in which udev and libusb find what a test has plugged in.

It is around the process that is started with ``umockdev-wrapper``; :func:`play` starts one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cffi

from kubectl_vmredir.model import UsbClass
from tests.support.usb_machine import (
    MASS_STORAGE,
    configuration,
    device_descriptor,
    interface_descriptor,
)

_LIMIT_S = 60

_ffi = cffi.FFI()
_ffi.cdef("""
    typedef struct { unsigned domain; int code; char *message; } GError;
    void *umockdev_testbed_new(void);
    char *umockdev_testbed_get_root_dir(void *testbed);
    int umockdev_testbed_add_from_string(void *testbed, const char *data, GError **error);
    void umockdev_testbed_uevent(void *testbed, const char *path, const char *action);
    void umockdev_testbed_remove_device(void *testbed, const char *path);
    void g_object_unref(void *object);
""")


class Testbed:
    """Plugs devices in and out, and says so as the kernel and udev do."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self) -> None:
        self._library = _ffi.dlopen("libumockdev.so.0")
        self._testbed = _ffi.gc(self._library.umockdev_testbed_new(), self._library.g_object_unref)
        root = _ffi.string(self._library.umockdev_testbed_get_root_dir(self._testbed))
        self.root = Path(root.decode())

    def plug(
        self,
        port: str,
        *,
        address: int,
        ids: str = "1234:5678",
        classes: Sequence[UsbClass] = (MASS_STORAGE,),
        strings: bytes = b"\0\0\0",
        **texts: str,
    ) -> None:
        """Plug a device in, and say nothing of it yet."""
        bus = int(port.split("-")[0])
        node = f"bus/usb/{bus:03}/{address:03}"
        interfaces = [interface_descriptor(*each) for each in enumerate(classes)]
        descriptors = device_descriptor(ids, strings=strings) + configuration(*interfaces)
        properties = {
            "SUBSYSTEM": "usb",
            "DEVTYPE": "usb_device",
            "DEVNAME": f"/dev/{node}",
            "MAJOR": "189",
            "MINOR": str((bus - 1) * 128 + address - 1),
            "BUSNUM": f"{bus:03}",
            "DEVNUM": f"{address:03}",
        }
        attributes = {
            "busnum": str(bus),
            "devnum": str(address),
            "idVendor": ids[:4],
            "idProduct": ids[5:],
            "speed": "480",
            **texts,
        }
        lines = [f"P: {_device(port)}", f"N: {node}={descriptors.hex().upper()}"]
        lines += [f"E: {name}={value}" for name, value in properties.items()]
        lines += [f"A: {name}={value}\\n" for name, value in attributes.items()]
        lines += [f"H: descriptors={descriptors.hex().upper()}", ""]
        lines += [f"P: {_interface(port)}", "E: SUBSYSTEM=usb", "E: DEVTYPE=usb_interface"]
        error = _ffi.new("GError **")
        text = "\n".join([*lines, "", ""]).encode()
        if not self._library.umockdev_testbed_add_from_string(self._testbed, text, error):
            raise ValueError(_ffi.string(error[0].message).decode())

    def say(self, port: str, event: str) -> None:
        """Say what happened to a device; ``interface:bind`` is of its interface."""
        interface, _, action = event.rpartition(":")
        path = _interface(port) if interface else _device(port)
        self._library.umockdev_testbed_uevent(
            self._testbed, f"/sys{path}".encode(), action.encode()
        )

    def unplug(self, port: str) -> None:
        """Take a device away, of which events can still be said until :meth:`forget`."""
        (self.root / "sys/bus/usb/devices" / port).unlink()

    def forget(self, port: str) -> None:
        """Remove the folder of a device that was unplugged."""
        for path in (_interface(port), _device(port)):
            self._library.umockdev_testbed_remove_device(self._testbed, f"/sys{path}".encode())

    def start_udevd(self) -> None:
        """Have it look as if udevd runs."""
        control = self.root / "run/udev/control"
        control.parent.mkdir(parents=True, exist_ok=True)
        control.touch()


def play(scenario: str, *arguments: str) -> object:
    """Run a function of ``usb_scenarios`` in a testbed of its own; return what it returns."""
    return _report(["umockdev-wrapper", *_program(scenario, *arguments)])


def play_recorded(recording: Path, scenario: str) -> object:
    """Run a function of ``usb_scenarios`` where a recorded device is plugged in."""
    return _report(["umockdev-run", "--device", str(recording), "--", *_program(scenario)])


def _program(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "tests.support.usb_scenarios", *arguments]


def _report(command: list[str]) -> object:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _device(port: str) -> str:
    return f"/devices/pci0/usb{port.split('-')[0]}/{port}"


def _interface(port: str) -> str:
    return f"{_device(port)}/{port}:1.0"
