from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.k8s.lists import Page
from tests.support.wire_values import JSON

BESIDES = st.dictionaries(st.text().filter(lambda name: name != "items"), JSON, max_size=4)


@given(items=st.lists(JSON, max_size=5), besides=BESIDES, place=st.integers(0, 4), data=st.data())
def test_list_is_taken_apart_wherever_its_items_are(
    items: list[object], besides: dict[str, object], place: int, data: st.DataObject
) -> None:
    said = list(besides.items())
    said.insert(place, ("items", items))
    indent = data.draw(st.sampled_from([None, 0, 2]))
    body = json.dumps(dict(said), indent=indent, ensure_ascii=data.draw(st.booleans()))

    page = Page(body.encode())

    assert list(page) == items
    assert page.rest == besides


@pytest.mark.parametrize("body", [b"", b"{}", b" { } ", b'{"items":[]}', b'{"items" : [ ] }\n'])
def test_empty_list_has_no_items(body: bytes) -> None:
    page = Page(body)

    assert list(page) == []
    assert page.rest == {}


def test_items_that_are_no_array_are_left_to_whoever_asked() -> None:
    page = Page(b'{"items": {"a": 1}}')

    assert list(page) == []
    assert page.rest == {"items": {"a": 1}}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff",
        b"[1]",
        b"{",
        b'{"a"}',
        b'{"a": 1,}',
        b'{"a": 1} 2',
        b"{1: 2}",
        b'{"items": [1',
        b'{"items": [1,]}',
        b'{"items": [1 2]}',
        b'{"items": [}',
        b"null",
    ],
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(Page(body))


@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",: ei\n1', max_size=40).map(str.encode))
def test_any_bytes_are_a_list_or_refused(body: bytes) -> None:
    page = Page(body)
    try:
        whole = json.loads(body) if body else {}
    except ValueError:
        whole = None

    if isinstance(whole, dict):
        assert list(page) == []
        assert page.rest == whole
    else:
        with pytest.raises(ValueError, match=r"."):
            list(page)
