from __future__ import annotations

import dataclasses

import pytest

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import RedirectionChanged, Trouble, VmiSlots, VmisSeen
from kubectl_vmredir.tui.selection import (
    Selection,
    is_paused,
    why_no_session,
    why_no_vmi,
    why_not_keep,
    why_not_leave_context,
    why_not_migrate,
    why_not_name_slots,
    why_not_pause,
    why_not_pick_device,
    why_not_pick_slot,
    why_not_reconnect,
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
    seen,
    vmi,
)


@pytest.fixture
def world() -> World:
    """A world with a session, two devices, three VMs, and the stick in fedora/flash."""
    world = World()
    world.opened(Session(ScriptedService(), "demo"))
    world.devices_seen(seen(STICK, TOKEN), NOON)
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

    assert why_not_unbind(world, Selection(redirection=view)) == ""
    assert why_not_unbind(world, Selection()) == "nothing is plugged into a VM here"
    assert (
        why_not_keep(world, Selection(redirection=view))
        == "no keyboard or pointer is on trial here"
    )
    assert why_not_keep(world, Selection(redirection=on_trial)) == ""


def test_nothing_is_changed_where_nothing_may_be(world: World) -> None:
    world.read_only = True
    view = world.of_device(STICK)
    selected = Selection(device=TOKEN, vmi=VMIS[0], redirection=view)

    for reason in (
        why_not_pick_device(world, selected),
        why_not_pick_slot(world, selected),
        why_not_unbind(world, selected),
        why_not_reconnect(world, selected),
        why_not_pause(world, selected),
        why_not_migrate(world, selected),
        why_not_name_slots(world, selected),
    ):
        assert reason == "this is --read-only: nothing is changed from here"
    assert why_no_vmi(world, selected) == ""


def test_who_may_not_migrate_is_told_what_would_let_them(world: World) -> None:
    world.may_migrate["demo"] = False

    assert why_not_migrate(world, Selection(vmi=VMIS[0])) == (
        "you may not migrate the VMs of namespace demo: "
        "the ClusterRole kubevirt.io:migrate would let you"
    )


def test_what_is_paused_is_gone_on_with_and_not_reconnected(world: World) -> None:
    paused = dataclasses.replace(redirection(), state=RedirectionState.PAUSED)
    world.hear(RedirectionChanged(paused), NOON)
    selected = Selection(redirection=world.of_device(STICK))

    assert is_paused(selected)
    assert why_not_pause(world, selected) == ""
    assert why_not_reconnect(world, selected) == "it is paused: press p to go on"


def test_slots_are_named_of_a_vm_that_has_some(world: World) -> None:
    assert why_not_name_slots(world, Selection(vmi=VMIS[0])) == ""
    assert why_not_name_slots(world, Selection()) == "no VM is chosen: press 2 and move to one"
    assert "has no USB slots" in why_not_name_slots(world, Selection(vmi=VMIS[1]))


@pytest.mark.parametrize(("lasting", "can"), [(True, True), (False, False)])
def test_a_context_is_only_left_if_that_unplugs_nothing(
    world: World, lasting: bool, can: bool
) -> None:
    world.opened(Session(ScriptedService(), "demo", lasting=lasting))

    assert (why_not_leave_context(world) == "") is can
