"""Descriptors as bytes, typed from USB 2.0 section 9.6 and HID 1.11 section 6.2.1."""

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.devices.descriptors import Description, DescriptorType
from kubectl_vmredir.lab.devices.keyboard import REPORT_DESCRIPTOR, Keyboard
from kubectl_vmredir.lab.devices.serial_adapter import SerialAdapter
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.stick import Stick

STICK = Stick("FLASH001", bytes(512)).description
KEYBOARD = Keyboard("KEYS001").description
SERIAL = SerialAdapter("SERIAL001").description
SMARTCARD = SmartcardReader("CARD001").description
ENGLISH = 0x0409

STICK_BYTES = [
    pytest.param(
        DescriptorType.DEVICE,
        0,
        "12 01 0002 00 00 00 40 0912 0100 0001 01 02 03 01",
        id="device",
    ),
    pytest.param(
        DescriptorType.CONFIGURATION,
        0,
        "09 02 2000 01 01 00 80 3209 04 00 00 02 08 06 50 0007 05 81 02 0002 0007 05 02 02 0002 00",
        id="configuration at high speed",
    ),
    pytest.param(
        DescriptorType.OTHER_SPEED_CONFIGURATION,
        0,
        "09 07 2000 01 01 00 80 3209 04 00 00 02 08 06 50 0007 05 81 02 4000 0007 05 02 02 4000 00",
        id="configuration at full speed",
    ),
    pytest.param(
        DescriptorType.DEVICE_QUALIFIER, 0, "0a 06 0002 00 00 00 40 01 00", id="qualifier"
    ),
    pytest.param(DescriptorType.STRING, 0, "04 03 0904", id="languages"),
    pytest.param(
        DescriptorType.STRING,
        1,
        "20 03" + "kubectl-vmredir".encode("utf-16-le").hex(),
        id="manufacturer",
    ),
    pytest.param(
        DescriptorType.STRING,
        2,
        "1c 03" + "Virtual Stick".encode("utf-16-le").hex(),
        id="product",
    ),
    pytest.param(
        DescriptorType.STRING, 3, "12 03 4600 4c00 4100 5300 4800 3000 3000 3100", id="serial"
    ),
]


@pytest.mark.parametrize(("kind", "index", "wire"), STICK_BYTES)
def test_stick_describes_itself(kind: DescriptorType, index: int, wire: str) -> None:
    assert STICK.descriptor(kind, index, ENGLISH) == bytes.fromhex(wire)


def test_keyboard_describes_itself() -> None:
    assert KEYBOARD.descriptor(DescriptorType.DEVICE, 0, 0) == bytes.fromhex(
        "12 01 0002 00 00 00 40 0912 0200 0001 01 02 03 01"
    )
    assert KEYBOARD.descriptor(DescriptorType.CONFIGURATION, 0, 0) == bytes.fromhex(
        "09 02 2200 01 01 00 a0 32"
        "09 04 00 00 01 03 01 01 00"
        "09 21 1101 00 01 22 3f00"
        "07 05 81 03 0800 0a"
    )
    assert len(REPORT_DESCRIPTOR) == 0x3F


def test_serial_adapter_describes_itself() -> None:
    assert SERIAL.descriptor(DescriptorType.DEVICE, 0, 0) == bytes.fromhex(
        "12 01 0002 02 00 00 40 0912 0300 0001 01 02 03 01"
    )
    # CDC 1.2 section 5.2.3 and PSTN 1.2 section 5.3 for the four functional descriptors.
    assert SERIAL.descriptor(DescriptorType.CONFIGURATION, 0, 0) == bytes.fromhex(
        "09 02 4300 02 01 00 80 32"
        "09 04 00 00 01 02 02 00 00"
        "05 24 00 2001"
        "05 24 01 00 01"
        "04 24 02 02"
        "05 24 06 00 01"
        "07 05 81 03 1000 10"
        "09 04 01 00 02 0a 00 00 00"
        "07 05 82 02 4000 00"
        "07 05 02 02 4000 00"
    )


def test_smartcard_reader_describes_itself() -> None:
    # CCID 1.1 section 5.1.
    assert SMARTCARD.descriptor(DescriptorType.CONFIGURATION, 0, 0) == bytes.fromhex(
        "09 02 5d00 01 01 00 80 32"
        "09 04 00 00 03 0b 00 00 00"
        "36 21 1001 00 07 02000000 a00f0000 a00f0000 00 012a0000 012a0000 00 fe000000"
        "00000000 00000000 7a040200 0f010000 ff ff 0000 00 01"
        "07 05 81 03 0800 10"
        "07 05 82 02 4000 00"
        "07 05 02 02 4000 00"
    )


def test_full_speed_device_has_no_qualifier() -> None:
    assert KEYBOARD.descriptor(DescriptorType.DEVICE_QUALIFIER, 0, 0) is None
    assert KEYBOARD.descriptor(DescriptorType.OTHER_SPEED_CONFIGURATION, 0, 0) is None


@pytest.mark.parametrize(
    ("kind", "index", "language"),
    [
        pytest.param(DescriptorType.DEVICE, 1, 0, id="second device"),
        pytest.param(DescriptorType.CONFIGURATION, 1, 0, id="second configuration"),
        pytest.param(DescriptorType.STRING, 4, ENGLISH, id="fourth string"),
        pytest.param(DescriptorType.STRING, 3, 0x0407, id="serial in German"),
        pytest.param(DescriptorType.INTERFACE, 0, 0, id="interface alone"),
        pytest.param(0x0F, 0, 0, id="binary object store"),
    ],
)
def test_what_is_not_there_is_not_described(kind: int, index: int, language: int) -> None:
    assert STICK.descriptor(kind, index, language) is None


def test_two_sticks_differ_by_their_serial_only() -> None:
    other = Stick("FLASH002", bytes(512)).description

    def strings(description: Description, *indexes: int) -> list[bytes | None]:
        return [description.descriptor(DescriptorType.STRING, index, ENGLISH) for index in indexes]

    assert other.descriptor(DescriptorType.DEVICE, 0, 0) == STICK.descriptor(
        DescriptorType.DEVICE, 0, 0
    )
    assert strings(other, 1, 2) == strings(STICK, 1, 2)
    assert strings(other, 3) != strings(STICK, 3)


def test_text_that_fits_in_no_descriptor_is_refused() -> None:
    Stick("x" * 126, bytes(512))

    with pytest.raises(LabError, match="too long: 'xxxxxxxxxxxxxxxxxxxx'"):
        Stick("x" * 127, bytes(512))
