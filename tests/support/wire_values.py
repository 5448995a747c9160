"""Hypothesis strategies for whatever goes through the agent's socket, from its annotations."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NewType

from hypothesis import strategies as st

from kubectl_vmredir.agent.wire import Raw, hints

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)

_PLAIN: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    # With what is no character at all, as in a file name that is not UTF-8.
    str: st.text(st.characters(exclude_categories=()), max_size=5),
    types.NoneType: st.none(),
}


def values(hint: object) -> st.SearchStrategy[Any]:
    """Return values of a type, as an annotation names it."""
    if hint is Raw:
        return JSON
    if isinstance(hint, NewType):
        return values(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin in (tuple, Sequence):
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=5), values(arguments[1]), max_size=3)
    assert isinstance(hint, type)
    if dataclasses.is_dataclass(hint):
        found = hints(hint)
        return st.builds(
            hint, **{field.name: values(found[field.name]) for field in dataclasses.fields(hint)}
        )
    if issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    return _PLAIN[hint]
