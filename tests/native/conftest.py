"""A machine with emulated USB devices, and usb-host processes that take them for real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kubectl_vmredir.usb.journal import Journal, read_boot_id
from kubectl_vmredir.usb.process import UsbHosts
from tests.support.usb_emulator import EmulatedBus, EmulatedDevice, build_shim, emulated_bus


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def bus(tmp_path: Path, shim: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedBus]:
    """Give a bus without devices, which processes that are started now use."""
    with emulated_bus(tmp_path / "root", shim) as bus:
        for name, value in bus.environment.items():
            monkeypatch.setenv(name, value)
        yield bus


@pytest.fixture
def device(bus: EmulatedBus) -> EmulatedDevice:
    return bus.plug()


@pytest.fixture
def journal(bus: EmulatedBus, tmp_path: Path) -> Journal:
    return Journal(tmp_path / "claims", boot_id=read_boot_id(bus.root))


@pytest.fixture
async def hosts(bus: EmulatedBus, journal: Journal) -> AsyncIterator[UsbHosts]:
    async with UsbHosts(journal, root=bus.root) as hosts:
        yield hosts
