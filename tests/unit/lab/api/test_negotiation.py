from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.negotiation import Accepted, Form, many
from kubectl_vmredir.lab.api.objects import to_wire
from kubectl_vmredir.lab.api.resources import PODS, VMIMS
from kubectl_vmredir.lab.api.status import Refusal

KUBECTL_GET = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,"
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)

HEADERS = [
    ("", Accepted()),
    ("*/*", Accepted()),
    ("application/json", Accepted()),
    ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
    (KUBECTL_GET, Accepted(Form.TABLE)),
    ("application/json;as=Table;v=v1;g=other,application/json", Accepted()),
    ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Accepted(Form.METADATA)),
    ("application/yaml", Accepted(yaml=True)),
]


@pytest.mark.parametrize(("header", "wanted"), HEADERS)
def test_the_first_form_that_can_be_served_wins(header: str, wanted: Accepted) -> None:
    assert Accepted.parse(header) == wanted


def test_what_cannot_be_served_is_not_acceptable() -> None:
    with pytest.raises(Refusal) as caught:
        Accepted.parse("text/html")

    assert (caught.value.code, caught.value.reason) == (406, "NotAcceptable")


def test_items_of_core_lists_say_neither_kind_nor_version() -> None:
    obj = {"kind": "X", "apiVersion": "y", "metadata": {"name": "a"}}

    core = many(Accepted(), PODS, [obj], {})
    custom = many(Accepted(), VMIMS, [obj], {})

    assert core["kind"] == "PodList"
    assert core["items"] == [{"metadata": {"name": "a"}}]
    assert custom["items"] == [obj]


def test_json_is_escaped_as_go_escapes_it() -> None:
    assert to_wire({"a": "<b> & é"}) == '{"a":"\\u003cb\\u003e \\u0026 é"}'
