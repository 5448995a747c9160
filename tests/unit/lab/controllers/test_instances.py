from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers import instances
from kubectl_vmredir.lab.controllers.writes import Create, Delete, Patch
from kubectl_vmredir.lab.objects import Collection
from tests.support.lab_objects import CREATED, pod, vmi

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.controllers.writes import Write

NOW = datetime.fromisoformat(CREATED)
POD = pod()


def running() -> JsonObject:
    instance = vmi()
    instance["status"]["activePods"] = {"uid-virt-launcher-desk-a": "node1"}
    return instance


def status_of(write: Write | None) -> JsonObject:
    assert isinstance(write, Patch)
    assert write.subresource == "", "a VMI has no subresource status"
    status: JsonObject = write.change["status"]
    return status


def test_a_new_vmi_becomes_pending_and_is_held_by_finalizers() -> None:
    write = instances.decide(vmi("", node=None, observed=False), (), NOW)

    assert status_of(write)["phase"] == "Pending"
    assert isinstance(write, Patch)
    assert write.change["metadata"]["finalizers"] == list(objects.VMI_FINALIZERS)


def test_a_vmi_that_the_webhooks_made_pending_stays_so() -> None:
    assert status_of(instances.decide(vmi("Pending", observed=False), (), NOW)) == {}


def test_a_pending_vmi_gets_a_pod_which_is_active_from_the_start() -> None:
    write = instances.decide(vmi("Pending", node=None), (), NOW)

    assert isinstance(write, Create)
    assert write.obj["metadata"]["generateName"] == "virt-launcher-desk-"
    unbound = pod(node=None, phase="Pending")
    status = status_of(instances.decide(vmi("Pending", node=None), [unbound], NOW))
    assert (status["phase"], status["activePods"]) == (
        "Scheduling",
        {"uid-virt-launcher-desk-a": ""},
    )


def test_a_ready_pod_makes_the_vmi_scheduled_on_its_node() -> None:
    write = instances.decide(vmi("Scheduling", node=None), [POD], NOW)

    status = status_of(write)
    assert (status["phase"], status["nodeName"]) == ("Scheduled", "node1")
    assert isinstance(write, Patch)
    assert write.change["metadata"] == {"labels": {objects.NODE_NAME: "node1"}}


def test_active_pods_are_all_pods_those_that_have_ended_too() -> None:
    ended = pod("virt-launcher-desk-b", node="node2", phase="Succeeded")

    status = status_of(instances.decide(running(), [POD, ended], NOW))

    assert status["activePods"] == {
        "uid-virt-launcher-desk-a": "node1",
        "uid-virt-launcher-desk-b": "node2",
    }


def test_a_pod_that_is_gone_leaves_the_active_ones() -> None:
    instance = running()
    instance["status"]["activePods"] |= {"uid-gone": "node2"}

    assert status_of(instances.decide(instance, [POD], NOW))["activePods"]["uid-gone"] is None


def test_the_launcher_version_is_said_again_after_a_migration() -> None:
    instance = running()
    del instance["status"]["launcherContainerImageVersion"]

    assert "launcherContainerImageVersion" in status_of(instances.decide(instance, [POD], NOW))


def test_nothing_is_due_when_all_is_well() -> None:
    assert instances.decide(running(), [POD], NOW) is None


def test_a_vmi_lives_on_in_the_target_when_the_source_pod_has_ended() -> None:
    ended, target = pod(phase="Succeeded"), pod("target", node="node2")
    instance = running()
    instance["status"]["activePods"] |= {"uid-target": "node2"}

    assert instances.decide(instance, [ended, target], NOW) is None


def test_a_vmi_without_a_living_pod_has_failed() -> None:
    assert status_of(instances.decide(running(), [pod(phase="Failed")], NOW))["phase"] == "Failed"
    assert status_of(instances.decide(running(), (), NOW))["phase"] == "Failed"


def test_a_deleted_vmi_goes_after_its_pods() -> None:
    going = vmi(deletionTimestamp=CREATED)

    assert instances.decide(going, [POD], NOW) == Delete(Collection.PODS, POD)
    assert instances.decide(going, [pod(deletionTimestamp=CREATED)], NOW) is None
    write = instances.decide(going, (), NOW)
    assert isinstance(write, Patch)
    assert write.change == {"metadata": {"finalizers": None}}


def test_a_vmi_that_has_ended_keeps_no_pod() -> None:
    assert instances.decide(vmi("Failed"), [POD], NOW) == Delete(Collection.PODS, POD)
    assert instances.decide(vmi("Failed"), (), NOW) is None
