from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.objects import Json
from kubectl_vmredir.lab.api.resources import NODES, PODS, VMIMS
from kubectl_vmredir.lab.api.selectors import Selection
from kubectl_vmredir.lab.api.status import Refusal

POD: Json = {
    "metadata": {
        "name": "virt-handler-x",
        "namespace": "kubevirt",
        "labels": {"kubevirt.io": "virt-handler", "tier": "node"},
    },
    "spec": {"nodeName": "node1"},
    "status": {"phase": "Running"},
}

LABELS = [
    ("", True),
    ("tier", True),
    ("other", False),
    ("!tier", False),
    ("!other", True),
    ("kubevirt.io=virt-handler", True),
    ("kubevirt.io==virt-handler", True),
    ("kubevirt.io!=virt-handler", False),
    ("other!=anything", True),
    ("other=", False),
    ("tier in (node, pod)", True),
    ("tier in (pod)", False),
    ("tier notin (pod)", True),
    ("other notin (pod)", True),
    ("kubevirt.io=virt-handler,tier in (node),!other", True),
    ("kubevirt.io=virt-handler,tier=pod", False),
]


@pytest.mark.parametrize(("text", "wanted"), LABELS)
def test_label_selectors(text: str, wanted: bool) -> None:
    assert Selection.parse(PODS, text, "").matches(POD) is wanted


FIELDS = [
    ("metadata.name=virt-handler-x", True),
    ("metadata.namespace!=kubevirt", False),
    ("spec.nodeName=node1,status.phase==Running", True),
    ("status.phase!=Running", False),
    ("status.podIP=", True),
]


@pytest.mark.parametrize(("text", "wanted"), FIELDS)
def test_field_selectors(text: str, wanted: bool) -> None:
    assert Selection.parse(PODS, "", text).matches(POD) is wanted


def test_a_boolean_field_is_compared_as_text() -> None:
    selection = Selection.parse(NODES, "", "spec.unschedulable=true")

    assert selection.matches({"metadata": {}, "spec": {"unschedulable": True}})
    assert not selection.matches({"metadata": {}, "spec": {}})


# The texts of kube-apiserver 1.36.
COMPLAINTS = [
    ("a b", "", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    ("a in b", "", "unable to parse requirement: found 'b' expected: '('"),
    ("a in (b", "", "unable to parse requirement: found '', expected: ',' or ')'"),
    (",", "", "found ',', expected: !, identifier, or 'end of string'"),
    ("=b", "", "found '=', expected: !, identifier, or 'end of string'"),
    ("", "bad", "invalid selector: 'bad'; can't understand 'bad'"),
    ("", "status.foo=1", "field label not supported: status.foo"),
]


@pytest.mark.parametrize(("labels", "fields", "message"), COMPLAINTS)
def test_what_cannot_be_read_is_a_bad_request(labels: str, fields: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        Selection.parse(PODS, labels, fields)

    assert (caught.value.code, caught.value.message) == (400, message)


def test_a_custom_resource_has_no_field_but_its_names() -> None:
    with pytest.raises(Refusal, match=r"field label not supported: status\.phase"):
        Selection.parse(VMIMS, "", "status.phase=Running")
