"""What the service can be asked about VMs, besides their slots."""

from __future__ import annotations

import pytest

from kubectl_vmredir.errors import SlotTaken, UsageError, VmiNotFound
from kubectl_vmredir.model import DeviceSelector, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.service_world import FEDORA, World


async def test_whether_one_may_migrate_is_asked_of_the_cluster(world: World) -> None:
    assert await world.service.may_migrate("demo")
    assert not await world.service.may_migrate("prod")


async def test_a_vmi_is_shown_as_the_cluster_keeps_it(world: World) -> None:
    assert await world.service.vmi_yaml(FEDORA) == "name: fedora\n"
    with pytest.raises(VmiNotFound):
        await world.service.vmi_yaml(VmiRef("demo", "nobody"))


async def test_slots_get_the_names_that_are_asked_for(world: World) -> None:
    assert await world.service.name_slots(FEDORA, ["flash", "token"])

    (entry,) = await world.service.vmis("demo")
    assert [slot.name for slot in entry.slots] == ["flash", "token", "usb2", "usb3"]


async def test_a_slot_with_a_redirection_keeps_its_name(world: World) -> None:
    device = (await world.service.devices())[0]
    await world.service.bind(BindRequest(DeviceSelector.of(device), FEDORA, "flash"))

    with pytest.raises(SlotTaken):
        await world.service.name_slots(FEDORA, ["other"])
    assert await world.service.name_slots(FEDORA, ["flash", "other"])


async def test_what_cannot_be_a_name_is_refused(world: World) -> None:
    with pytest.raises(UsageError):
        await world.service.name_slots(FEDORA, ["no name"])
