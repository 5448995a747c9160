from __future__ import annotations

import errno
from array import array
from pathlib import Path
from types import SimpleNamespace

import pytest
import usb.core

from kubectl_vmredir.usb.strings import ask

LANGUAGES = b"\x06\x03\x07\x04\x09\x04"  # German first


def string(text: str) -> bytes:
    encoded = text.encode("utf-16-le", errors="surrogatepass")
    return bytes([2 + len(encoded), 3]) + encoded


class OneDevice:
    """A backend of pyusb with one device on it, at bus 1, address 4.

    Attributes:
        answers: String descriptors, by index.
        languages: Language of each request for one.
        opened: How often it was opened, and not closed.
    """

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers
        self.languages: list[int] = []
        self.opened = 0

    def enumerate_devices(self) -> list[str]:
        return ["device"]

    def get_device_descriptor(self, device: str) -> SimpleNamespace:
        names = (
            "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol "
            "bMaxPacketSize0 idVendor idProduct bcdDevice iManufacturer iProduct iSerialNumber "
            "bNumConfigurations port_number port_numbers speed"
        )
        return SimpleNamespace(**dict.fromkeys(names.split(), 1), bus=1, address=4)

    def open_device(self, device: str) -> str:
        self.opened += 1
        return "handle"

    def close_device(self, handle: str) -> None:
        self.opened -= 1

    def ctrl_transfer(
        self, handle: str, kind: int, request: int, value: int, index: int, data: array[int], _: int
    ) -> int:
        assert (kind, request, value >> 8) == (0x80, 6, 3)
        if (answer := self.answers.get(value & 0xFF)) is None:
            raise usb.core.USBError("pipe error", -9, errno.EPIPE)
        if value & 0xFF:
            self.languages.append(index)
        data[: len(answer)] = array("B", answer)
        return len(answer)


@pytest.fixture
def node(tmp_path: Path) -> str:
    path = tmp_path / "004"
    path.touch()
    return str(path)


def test_texts_are_asked_for_in_the_first_language(node: str) -> None:
    device = OneDevice({0: LANGUAGES, 2: string("Stick"), 3: string("S1")})

    assert ask(node, 1, 4, [2, 3], backend=device) == {2: "Stick", 3: "S1"}
    assert device.languages == [0x0407, 0x0407]
    assert device.opened == 0


def test_text_that_is_no_utf16_can_be_written(node: str) -> None:
    device = OneDevice({0: LANGUAGES, 2: string("\ud800x") + b"\0"})

    text = ask(node, 1, 4, [2], backend=device)[2]

    assert text.endswith("x")
    text.encode()


def test_a_text_that_the_device_refuses_ends_the_asking(node: str) -> None:
    device = OneDevice({0: LANGUAGES, 1: string("ACME")})

    assert ask(node, 1, 4, [1, 2, 3], backend=device) == {1: "ACME"}
    assert device.opened == 0


def test_a_device_without_languages_has_no_texts(node: str) -> None:
    assert ask(node, 1, 4, [1], backend=OneDevice({1: string("ACME")})) == {}


def test_a_device_that_has_gone_has_no_texts(node: str) -> None:
    device = OneDevice({0: LANGUAGES, 1: string("ACME")})

    assert ask(node, 1, 5, [1], backend=device) == {}


def test_a_device_that_may_not_be_opened_is_not_asked(tmp_path: Path) -> None:
    device = OneDevice({0: LANGUAGES, 1: string("ACME")})

    assert ask(str(tmp_path / "no-node"), 1, 4, [1], backend=device) == {}
    assert device.languages == []


def test_missing_libusb_is_harmless(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usb.backend.libusb1.get_backend", lambda find_library=None: None)
    monkeypatch.setattr("usb.backend.libusb0.get_backend", lambda: None)
    monkeypatch.setattr("usb.backend.openusb.get_backend", lambda: None)

    assert ask(node, 1, 4, [1]) == {}
