from __future__ import annotations

import dataclasses

import pytest

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import RedirectionChanged, Trouble, VmiSlots, VmisSeen
from kubectl_vmredir.tui.selection import (
    Selection,
    why_no_session,
    why_not_keep,
    why_not_migrate,
    why_not_pick_device,
    why_not_pick_slot,
    why_not_unbind,
)
from kubectl_vmredir.tui.session import Session
from kubectl_vmredir.tui.world import World
from tests.support.scripted_service import (
    FEDORA,
    NOON,
    PLAIN,
    STICK,
    TOKEN,
    VMIS,
    ScriptedService,
    migrating,
    redirection,
    vmi,
)


@pytest.fixture
def world() -> World:
    """A world with a session, two devices, three VMs, and the stick in fedora/flash."""
    world = World()
    world.opened(Session(ScriptedService(), "demo"))
    world.devices_seen([STICK, TOKEN])
    world.hear_of_vmis(VmisSeen(VMIS), NOON)
    world.hear(RedirectionChanged(redirection()), NOON)
    return world


def test_without_a_session_it_is_said_what_is_in_the_way() -> None:
    world = World()
    assert why_no_session(world) == "the cluster is not connected yet"

    world.not_opened(Trouble.of(KubeconfigError("no kubeconfig")), NOON)
    for reason in (
        why_not_pick_device(world, Selection(device=STICK)),
        why_not_pick_slot(world, Selection(vmi=VMIS[0])),
        why_not_migrate(world, Selection(vmi=VMIS[0])),
    ):
        assert reason == "there is no cluster: no kubeconfig"


def test_a_free_device_and_a_free_slot_can_be_picked(world: World) -> None:
    assert why_not_pick_device(world, Selection(device=TOKEN)) == ""
    assert why_not_pick_slot(world, Selection(vmi=VMIS[0], slot="token")) == ""
    assert why_not_pick_slot(world, Selection(vmi=VMIS[0])) == ""


def test_a_device_in_use_cannot_be_picked_and_it_is_said_where_it_is(world: World) -> None:
    selection = Selection(device=STICK, redirection=world.of_device(STICK))

    reason = why_not_pick_device(world, selection)

    assert reason == "DataTraveler 3.0 is already in demo/fedora: press u to unbind it first"


def test_a_blocked_redirection_can_be_tried_again(world: World) -> None:
    blocked = dataclasses.replace(redirection(), state=RedirectionState.BLOCKED)
    world.hear(RedirectionChanged(blocked), NOON)

    selection = Selection(device=STICK, redirection=world.of_device(STICK))

    assert why_not_pick_device(world, selection) == ""
    assert why_not_pick_slot(world, Selection(vmi=VMIS[0], slot="flash")) == ""


@pytest.mark.parametrize(
    ("entry", "slot", "reason"),
    [
        (VMIS[0], "flash", "slot flash already holds DataTraveler 3.0: press u to unbind it first"),
        (VMIS[1], None, "VM plain has no USB slots: press d to see how it gets them"),
        (vmi(PLAIN, "a", phase="Scheduling"), "a", "VM plain does not run: it is Scheduling"),
        (vmi(PLAIN, "a", phase=""), "a", "VM plain does not run: it is new"),
        (
            vmi(FEDORA, "flash"),
            None,
            "all slots of VM fedora hold devices of yours: press u to unbind one",
        ),
        (None, None, "there is no VM here to plug a device into"),
    ],
)
def test_why_nothing_can_be_plugged_in_here(
    world: World, entry: VmiSlots | None, slot: str | None, reason: str
) -> None:
    assert why_not_pick_slot(world, Selection(vmi=entry, slot=slot)) == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (VMIS[0], ""),
        (None, "no VM is chosen: press 2 and move to one"),
        (vmi(FEDORA, migratable=False), "KubeVirt says that VM fedora cannot migrate"),
        (vmi(FEDORA, phase="Pending"), "VM fedora does not run: it is Pending"),
        (migrating(VMIS[0]), "VM fedora already migrates to node-2"),
        (migrating(VMIS[0], to=""), "VM fedora already migrates"),
    ],
)
def test_why_a_vm_cannot_be_asked_to_migrate(
    world: World, entry: VmiSlots | None, reason: str
) -> None:
    assert why_not_migrate(world, Selection(vmi=entry)) == reason


def test_only_what_is_redirected_can_be_unbound_and_only_what_is_on_trial_kept(
    world: World,
) -> None:
    view = world.of_device(STICK)
    assert view is not None
    on_trial = dataclasses.replace(view, status=dataclasses.replace(view.status, trial_ends=NOON))

    assert why_not_unbind(Selection(redirection=view)) == ""
    assert why_not_unbind(Selection()) == "nothing is plugged into a VM here"
    assert why_not_keep(Selection(redirection=view)) == "no keyboard or pointer is on trial here"
    assert why_not_keep(Selection(redirection=on_trial)) == ""
