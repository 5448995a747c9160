"""Which pods are the ends of a migration."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_vmredir.kubevirt.pods import LauncherPod, launcher_pod, launchers_of
from kubectl_vmredir.model import MigrationUid, MigrationView, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.ports import Launcher, Launchers

MOVE = MigrationUid("move-1")
DESK = VmiView(VmiRef("demo", "desk"), VmiUid("uid-desk"), phase="Running", node="node1")


def pod(
    name: str,
    node: str = "node1",
    *,
    migration: str = "",
    running: bool = True,
    created: str = "2026-11-24T10:00:00Z",
) -> LauncherPod:
    return LauncherPod(name, node, running, created, MigrationUid(migration))


def launcher(name: str) -> Launcher:
    return Launcher(DESK.ref, DESK.uid, name)


def moving(*, target_pod: str) -> VmiView:
    view = MigrationView(MOVE, source_node="node1", target_node="node2", target_pod=target_pod)
    return VmiView(DESK.ref, DESK.uid, phase="Running", node="node1", migration=view)


def test_pod_is_read() -> None:
    found = launcher_pod(
        {
            "metadata": {
                "name": "virt-launcher-desk-abcde",
                "creationTimestamp": "2026-11-24T10:00:00Z",
                "labels": {"kubevirt.io/migrationJobUID": "move-1"},
            },
            "spec": {"nodeName": "node2"},
            "status": {"phase": "Running"},
        }
    )

    assert found == pod("virt-launcher-desk-abcde", "node2", migration="move-1")


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": [], "spec": "x", "status": {"phase": 7}},
        {"metadata": {"labels": "x"}, "status": {"phase": "Succeeded"}},
        {"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}, "status": {"phase": "Running"}},
    ],
)
def test_pod_that_does_not_say_that_it_runs_does_not(obj: dict[str, Any]) -> None:
    assert not launcher_pod(obj).running


def test_guest_is_in_the_pod_on_its_node() -> None:
    pods = [pod("ended", running=False), pod("source"), pod("elsewhere", "node2")]

    assert launchers_of(DESK, None, pods) == Launchers(launcher("source"), None)


def test_guest_that_came_back_is_in_the_newest_pod_of_its_node() -> None:
    pods = [pod("first"), pod("back", created="2026-11-24T11:00:00Z"), pod("other", "node2")]

    assert launchers_of(DESK, None, pods).current == launcher("back")


def test_guest_without_a_node_is_nowhere() -> None:
    scheduling = VmiView(DESK.ref, DESK.uid, phase="Scheduling")

    assert launchers_of(scheduling, None, [pod("pending", "")]) == Launchers(None, None)


def test_target_is_known_by_its_label_before_the_hand_off() -> None:
    pods = [pod("source", migration="move-0"), pod("target", "node2", migration="move-1")]

    assert launchers_of(DESK, MOVE, pods) == Launchers(launcher("source"), launcher("target"))


def test_target_is_the_pod_that_the_vmi_names() -> None:
    pods = [pod("source"), pod("other", "node2", migration="move-1"), pod("target", "node2")]

    assert launchers_of(moving(target_pod="target"), MOVE, pods).target == launcher("target")


def test_target_of_another_migration_is_not_meant() -> None:
    pods = [pod("source"), pod("target", "node2", migration="move-1")]

    found = launchers_of(moving(target_pod="target"), MigrationUid("move-2"), pods)

    assert found == Launchers(launcher("source"), None)


def test_target_that_does_not_run_is_not_there() -> None:
    pods = [pod("source"), pod("target", "node2", running=False, migration="move-1")]

    assert launchers_of(moving(target_pod="target"), MOVE, pods).target is None


def test_pods_without_a_migration_have_no_target() -> None:
    assert launchers_of(DESK, None, [pod("source")]).target is None
    assert launchers_of(DESK, MigrationUid(""), [pod("source")]).target is None
