"""The libusb that a device is asked for its texts by."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.native


def test_it_is_loaded_by_name_wherever_the_system_looks_for_its_own() -> None:
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None;"
        "from kubectl_vmredir.usb.strings import libusb; print(libusb().lib._name)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "libusb-1.0.so.0\n"
