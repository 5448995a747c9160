from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.api.protobuf import decode_review
from kubectl_vmredir.lab.api.status import Refusal

# What kubectl 1.32 sends for "auth can-i get vmi -n demo", read off the wire.
CAN_I = bytes.fromhex(
    "6b38730 00a320a17 617574686f72697a 6174696f6e2e6b38 732e696f2f763112"
    "1753656c66537562 6a65637441636365 7373526576696577 12570a100a001200"
    "1a0022002a003200 3800420012390a37 0a0464656d6f1203 6765741a0b6b7562"
    "65766972742e696f 22002a1776697274 75616c6d61636869 6e65696e7374616e"
    "63657332003a001a 08080012001a0020 001a002200".replace(" ", "")
)


def test_a_review_of_kubectl_is_understood() -> None:
    assert decode_review(CAN_I) == {
        "spec": {
            "resourceAttributes": {
                "namespace": "demo",
                "verb": "get",
                "group": "kubevirt.io",
                "resource": "virtualmachineinstances",
            }
        }
    }


def test_a_path_can_be_asked_for() -> None:
    attributes = bytes.fromhex("0a082f76657273696f6e 1203676574".replace(" ", ""))
    spec = b"\x12" + bytes([len(attributes)]) + attributes
    review = b"\x12" + bytes([len(spec)]) + spec
    unknown = b"\x12" + bytes([len(review)]) + review

    assert decode_review(b"k8s\0" + unknown) == {
        "spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}}
    }


@pytest.mark.parametrize("body", [b"", b"{}", b"k8s\0\x12\xff", b"k8s\0\x13", CAN_I[:60]])
def test_anything_else_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        decode_review(body)

    assert caught.value.code == 400


@given(body=st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        decode_review(b"k8s\0" + body)
