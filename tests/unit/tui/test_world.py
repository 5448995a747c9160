from __future__ import annotations

import dataclasses

from kubectl_vmredir.errors import AgentGone, ClusterUnreachable
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import (
    DevicesSeen,
    Numbers,
    NumbersSampled,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionView,
    Snapshot,
    StoryAdded,
    StoryEvent,
    Trouble,
    VmiChanged,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from kubectl_vmredir.tui.session import Session
from kubectl_vmredir.tui.world import STORY_EVENTS, World
from tests.support.scripted_service import (
    FEDORA,
    NOON,
    PLAIN,
    STICK,
    TOKEN,
    VMIS,
    WIN11,
    ScriptedService,
    migrating,
    redirection,
    seen,
    vmi,
)

UNREACHABLE = Trouble.of(ClusterUnreachable("no answer"))
EVENT = StoryEvent(NOON, RedirectionState.CONNECTED, "plugged in")


def test_a_redirection_is_found_by_its_device_and_by_its_slot() -> None:
    world = World()
    world.devices_seen(seen(STICK, TOKEN), NOON)

    world.hear(RedirectionChanged(redirection()), NOON)

    by_device, in_slot = world.of_device(STICK), world.in_slot(FEDORA, "flash")
    assert by_device is not None
    assert by_device is in_slot
    assert world.of_device(TOKEN) is None
    assert world.in_slot(FEDORA, "token") is None


def test_a_redirection_that_changes_keeps_its_story() -> None:
    world = World()
    status = redirection()
    world.hear(Snapshot((RedirectionView(status, (EVENT,)),)), NOON)

    world.hear(
        RedirectionChanged(dataclasses.replace(status, state=RedirectionState.HOLDING)), NOON
    )

    (view,) = world.redirections.values()
    assert view.status.state is RedirectionState.HOLDING
    assert view.story == (EVENT,)


def test_the_story_is_bounded() -> None:
    world = World()
    status = redirection()
    world.hear(RedirectionChanged(status), NOON)

    for _ in range(STORY_EVENTS + 5):
        world.hear(StoryAdded(status.id, EVENT), NOON)

    assert len(world.redirections[status.id].story) == STORY_EVENTS


def test_what_is_heard_of_a_redirection_that_has_ended_is_nothing() -> None:
    world = World()
    status = redirection()
    world.hear(RedirectionChanged(status), NOON)
    world.hear(NumbersSampled(status.id, Numbers(1)), NOON)

    world.hear(RedirectionEnded(status.id), NOON)
    world.hear(StoryAdded(status.id, EVENT), NOON)
    world.hear(NumbersSampled(status.id, Numbers(2)), NOON)

    assert world.redirections == {}
    assert world.rates == {}


def test_vms_are_kept_in_order_while_they_come_and_go() -> None:
    world = World()
    world.hear_of_vmis(VmisSeen((VMIS[2], VMIS[0])), NOON)

    world.hear_of_vmis(VmiChanged(VMIS[1]), NOON)
    assert list(world.vmis or {}) == [FEDORA, PLAIN, WIN11]

    world.hear_of_vmis(VmiChanged(migrating(VMIS[0])), NOON)
    assert list(world.vmis or {}) == [FEDORA, PLAIN, WIN11]
    assert world.migrating() == 1

    world.hear_of_vmis(VmiRemoved(PLAIN), NOON)
    assert list(world.vmis or {}) == [FEDORA, WIN11]


def test_what_is_known_of_vms_stays_while_there_is_no_news_and_it_is_said_since_when() -> None:
    world = World()
    world.hear_of_vmis(VmisSeen(VMIS), NOON)

    world.hear_of_vmis(VmisUncertain(UNREACHABLE), NOON + 1)
    world.hear_of_vmis(VmisUncertain(UNREACHABLE), NOON + 60)

    assert world.vmis is not None
    assert world.vmis_bad is not None
    assert world.vmis_bad.since == NOON + 1

    world.hear_of_vmis(VmisSeen(VMIS), NOON + 61)
    assert world.vmis_bad is None


def test_devices_that_cannot_be_listed_are_none_and_it_is_said_since_when() -> None:
    world = World()
    world.devices_seen(seen(STICK), NOON)
    assert world.use_of(STICK) is not None

    world.devices_seen(DevicesSeen((), UNREACHABLE), NOON + 1)
    world.devices_seen(DevicesSeen((), UNREACHABLE), NOON + 60)

    assert world.devices == ()
    assert world.use_of(STICK) is None
    assert world.devices_bad is not None
    assert world.devices_bad.since == NOON + 1

    world.devices_seen(seen(STICK), NOON + 61)
    assert world.devices_bad is None


def test_a_session_that_is_lost_and_found_keeps_what_is_looked_at() -> None:
    world = World()
    world.opened(Session(ScriptedService(), "demo"))
    world.look_at("prod")
    world.hear_of_vmis(VmisSeen(VMIS), NOON)

    world.not_opened(Trouble.of(AgentGone("gone")), NOON)
    assert world.agent_gone
    assert world.vmis

    world.opened(Session(ScriptedService(), "demo"))
    assert world.scope == "prod"
    assert not world.agent_gone


def test_of_another_context_nothing_is_known() -> None:
    world = World()
    world.opened(Session(ScriptedService(), "demo"))
    world.hear_of_vmis(VmisSeen(VMIS), NOON)
    world.hear(RedirectionChanged(redirection()), NOON)
    world.may_migrate["demo"] = False

    world.leave()
    assert (world.session, world.vmis) == (None, None)
    assert (world.redirections, world.may_migrate) == ({}, {})

    world.opened(Session(ScriptedService(), "other"))
    assert world.scope == "other"


def test_a_migration_that_has_ended_is_none_any_more() -> None:
    world = World()
    entry = migrating(vmi(FEDORA, "flash"))
    assert entry.vmi.migration is not None
    over = dataclasses.replace(
        entry.vmi, migration=dataclasses.replace(entry.vmi.migration, failed=True)
    )

    world.hear_of_vmis(VmisSeen((dataclasses.replace(entry, vmi=over),)), NOON)

    assert world.migrating() == 0
