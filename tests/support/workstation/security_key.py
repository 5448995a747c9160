"""A security key that the workstation's own kernel plays: a USB gadget in a virtual port.

It is a HID device of the FIDO usage page with reports of 64 bytes, and it sends each report back.
Sources: Documentation/usb/gadget_configfs.rst and Documentation/usb/gadget_hid.rst of the Linux
kernel; "CTAP HID protocol", section "HID report descriptor and device discovery".
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tests.support.workstation.vm import Plugged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.workstation.vm import WorkstationVm

REPORT_BYTES: Final = 64

_REPORT_DESCRIPTOR: Final = bytes.fromhex(
    "06d0f1 0901 a101"  # usage page FIDO, usage CTAPHID, collection
    "0920 1500 26ff00 7508 9540 8102"  # 64 bytes in
    "0921 1500 26ff00 7508 9540 9102"  # 64 bytes out
    "c0"
)

_PLUG: Final = """
set -e
modprobe -a dummy_hcd libcomposite usb_f_hid
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
cd /sys/kernel/config/usb_gadget
mkdir key
cd key
echo 0x1050 >idVendor
echo 0x0120 >idProduct
mkdir strings/0x409
echo "$1" >strings/0x409/serialnumber
echo Example >strings/0x409/manufacturer
echo "Security Key" >strings/0x409/product
mkdir configs/c.1 functions/hid.key
echo "$2" >functions/hid.key/report_length
printf "$3" >functions/hid.key/report_desc
ln -s functions/hid.key configs/c.1/
ls /sys/class/udc >UDC
"""
_UNPLUG: Final = """
cd /sys/kernel/config/usb_gadget/key
echo >UDC
rm configs/c.1/hid.key
rmdir configs/c.1 functions/hid.key strings/0x409
cd ..
rmdir key
"""
_ECHO: Final = """
import os
port = os.open("/dev/hidg0", os.O_RDWR)
while True:
    os.write(port, os.read(port, 64))
"""


@asynccontextmanager
async def plugged_security_key(vm: WorkstationVm, serial: str) -> AsyncIterator[Plugged]:
    """Give a security key that is plugged in until the context ends."""
    descriptor = "".join(f"\\x{byte:02x}" for byte in _REPORT_DESCRIPTOR)
    await vm.root("bash", "-c", _PLUG, "bash", serial, str(REPORT_BYTES), descriptor)
    async with vm.agent.running("python3", "-c", _ECHO, user="root"):
        yield await vm.appeared(serial)
    await vm.root("bash", "-c", _UNPLUG)
