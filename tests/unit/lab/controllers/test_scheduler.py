from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.lab.controllers import pods as rendered
from kubectl_vmredir.lab.controllers import scheduler
from kubectl_vmredir.lab.controllers.writes import Bind, Patch
from tests.support.lab_objects import node, pod, vmi, vmim

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject

NODES = [node("node1"), node("node2"), node("node3")]
WAITING = pod("waiting", node=None, phase="Pending")


def bound(wish: object) -> str:
    assert isinstance(wish, Bind)
    return str(wish.node["metadata"]["name"])


def target(**spec: object) -> JsonObject:
    obj = rendered.target(vmi(), vmim() | {"spec": {"vmiName": "desk", **spec}})
    obj["metadata"] |= {"name": "target", "uid": "uid-target", "resourceVersion": "1"}
    return obj | {"status": {"phase": "Pending"}}


def test_the_node_with_the_fewest_pods_is_chosen_and_of_those_the_first() -> None:
    others = {"kubevirt.io/created-by": "uid-other"}
    there = [pod("a", node="node1", labels=others), pod("b", node="node2", labels=others)]

    assert bound(scheduler.decide(WAITING, NODES, there)) == "node3"
    assert bound(scheduler.decide(WAITING, NODES, [])) == "node1"


def test_a_target_never_shares_the_node_of_the_source() -> None:
    source = pod("source", node="node1")

    assert bound(scheduler.decide(target(), NODES[:2], [source])) == "node2"
    assert isinstance(scheduler.decide(target(), NODES[:1], [source]), Patch)


def test_a_pod_that_has_ended_keeps_nobody_away() -> None:
    ended = pod("ended", node="node1", phase="Succeeded")

    assert bound(scheduler.decide(target(), NODES[:1], [ended])) == "node1"


def test_cordoned_and_unready_nodes_get_nothing() -> None:
    nodes = [node("node1", cordoned=True), node("node2", ready=False), node("node3")]

    assert bound(scheduler.decide(WAITING, nodes, [])) == "node3"


def test_labels_that_are_asked_for_decide() -> None:
    chosen = target(addedNodeSelector={"kubernetes.io/hostname": "node2"})

    assert bound(scheduler.decide(chosen, NODES, [])) == "node2"


def test_that_no_node_fits_is_said_once() -> None:
    nodes = [node("node1", cordoned=True)]

    wish = scheduler.decide(WAITING, nodes, [])

    assert isinstance(wish, Patch)
    (condition,) = wish.change["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    told = pod("waiting", node=None, phase="Pending", conditions=[condition])
    assert scheduler.decide(told, nodes, []) is None


def test_a_pod_that_has_a_node_or_is_going_is_left_alone() -> None:
    going = pod("going", node=None, phase="Pending", deletionTimestamp="now")

    assert scheduler.decide(pod(), NODES, []) is None
    assert scheduler.decide(going, NODES, []) is None
