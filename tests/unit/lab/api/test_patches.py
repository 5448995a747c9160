from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.api.objects import Json
from kubectl_vmredir.lab.api.patches import JSON_PATCH, MERGE, STRATEGIC, Patch
from kubectl_vmredir.lab.api.status import Refusal


def patched(media_type: str, original: Json, patch: object) -> Json:
    return Patch(media_type, json.dumps(patch).encode()).apply(original)


# The examples of RFC 7396, appendix A, that are objects on both sides.
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "wanted"), MERGES)
def test_merge_patch(original: Json, patch: Json, wanted: Json) -> None:
    assert patched(MERGE, original, patch) == wanted


def test_a_strategic_patch_merges_conditions_by_their_type() -> None:
    ready = {"type": "Ready", "status": "False", "reason": "Booting"}
    disk = {"type": "Disk", "status": "True"}
    pod = {"status": {"conditions": [ready, disk]}}

    result = patched(
        STRATEGIC, pod, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    )

    assert result["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "reason": "Booting"},
        disk,
    ]


def test_a_strategic_patch_takes_an_element_out() -> None:
    node = {"spec": {"taints": [{"key": "a"}, {"key": "b"}]}}

    result = patched(STRATEGIC, node, {"spec": {"taints": [{"$patch": "delete", "key": "a"}]}})

    assert result == {"spec": {"taints": [{"key": "b"}]}}


def test_a_merge_patch_replaces_lists() -> None:
    node = {"spec": {"taints": [{"key": "a"}]}}

    assert patched(MERGE, node, {"spec": {"taints": [{"key": "b"}]}}) == {
        "spec": {"taints": [{"key": "b"}]}
    }


# RFC 6902, appendix A, and what kube-apiserver's library does beyond it.
OPERATIONS = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": 1}], {"foo": "bar", "baz": 1}),
    ({"foo": [1, 3]}, [{"op": "add", "path": "/foo/1", "value": 2}], {"foo": [1, 2, 3]}),
    ({"foo": [1]}, [{"op": "add", "path": "/foo/-", "value": 2}], {"foo": [1, 2]}),
    ({"foo": 1, "baz": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 1}),
    ({"foo": [1, 2]}, [{"op": "remove", "path": "/foo/0"}], {"foo": [2]}),
    ({"baz": 1}, [{"op": "replace", "path": "/baz", "value": 2}], {"baz": 2}),
    ({}, [{"op": "replace", "path": "/baz", "value": 2}], {"baz": 2}),
    ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
    ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": 1, "c": 1}),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
    ({"a": {}}, [{"op": "add", "path": "/a/x~1y~0z", "value": 1}], {"a": {"x/y~z": 1}}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]


@pytest.mark.parametrize(("original", "operations", "wanted"), OPERATIONS)
def test_json_patch(original: Json, operations: list[Json], wanted: Json) -> None:
    assert patched(JSON_PATCH, original, operations) == wanted


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/list/7", "value": 1},
        {"op": "add", "path": "no-pointer", "value": 1},
        {"op": "add", "path": "", "value": 1},
        {"op": "nonsense", "path": "/a"},
        {"op": "add", "path": "/a"},
        {"path": "/a"},
    ],
)
def test_an_operation_that_cannot_be_done_is_rejected_without_a_reason(operation: Json) -> None:
    with pytest.raises(Refusal) as caught:
        patched(JSON_PATCH, {"a": 1, "list": []}, [operation])

    assert caught.value.code == 422
    assert caught.value.message == "the server rejected our request due to an error in our request"


UNREADABLE = [
    (MERGE, b"zz", "error decoding patch: invalid character 'z' looking for beginning of value"),
    (
        MERGE,
        b"[1]",
        "error decoding patch: json: cannot unmarshal array into Go value of type "
        "map[string]interface {}",
    ),
    (
        JSON_PATCH,
        b"{}",
        "error decoding patch: json: cannot unmarshal object into Go value of type "
        "[]handlers.jsonPatchOp",
    ),
]


@pytest.mark.parametrize(("media_type", "body", "message"), UNREADABLE)
def test_a_patch_that_cannot_be_read_is_a_bad_request(
    media_type: str, body: bytes, message: str
) -> None:
    with pytest.raises(Refusal) as caught:
        Patch(media_type, body).apply({})

    assert (caught.value.code, caught.value.message) == (400, message)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)


@given(original=_OBJECTS, patch=_OBJECTS, media_type=st.sampled_from([MERGE, STRATEGIC]))
def test_a_patch_leaves_its_original_alone_and_changes_nothing_the_second_time(
    original: Json, patch: Json, media_type: str
) -> None:
    before = copy.deepcopy(original)

    once = patched(media_type, original, patch)

    assert original == before
    assert patched(media_type, once, patch) == once
