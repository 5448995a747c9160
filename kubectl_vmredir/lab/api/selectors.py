"""Label and field selectors, with the texts of the real ones' complaints.

Source: k8s.io/apimachinery/pkg/labels/selector.go and pkg/fields/selector.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from .objects import dig, metadata
from .status import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .objects import Json
    from .resources import Resource

_TOKEN: Final = re.compile(r"\s*(!=|==|[=!(),]|[^=!(),\s]+)")
_OPERATORS: Final = ("=", "==", "!=", "(", ")", ",")
_EXPECTED: Final = "in, notin, =, ==, !=, gt, lt"


@dataclass(frozen=True, slots=True)
class Exists:
    """The label is there, or is not."""

    key: str
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels satisfy it."""
        return (self.key in labels) is self.wanted


@dataclass(frozen=True, slots=True)
class OneOf:
    """The label has one of the values; or has none of them, or is not there at all."""

    key: str
    values: frozenset[str]
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels satisfy it."""
        return (labels.get(self.key) in self.values) is self.wanted


Requirement = Exists | OneOf


class _LabelParser:
    """One pass over the tokens of a label selector."""

    def __init__(self, text: str) -> None:
        self._tokens = [found[1] for found in _TOKEN.finditer(text)]
        self._at = 0

    def parse(self) -> tuple[Requirement, ...]:
        """Return all requirements.

        Raises:
            Refusal: 400.
        """
        requirements: list[Requirement] = []
        while self._at < len(self._tokens):
            if self._peek() in _OPERATORS:
                raise bad_request(
                    f"found '{self._peek()}', expected: !, identifier, or 'end of string'"
                )
            requirements.append(self._requirement())
            if self._peek() not in (",", ""):
                raise self._complaint("',' or 'end of string'")
            self._at += 1
        return tuple(requirements)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _complaint(self, expected: str) -> Exception:
        return bad_request(
            f"unable to parse requirement: found '{self._peek()}', expected: {expected}"
        )

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._at += 1
            return Exists(self._word(), wanted=False)
        key = self._word()
        match self._peek():
            case "," | "":
                return Exists(key, wanted=True)
            case "=" | "==":
                self._at += 1
                return OneOf(key, frozenset({self._value()}), wanted=True)
            case "!=":
                self._at += 1
                return OneOf(key, frozenset({self._value()}), wanted=False)
            case "in" | "notin" as operator:
                self._at += 1
                return OneOf(key, self._set(), wanted=operator == "in")
            case _:
                raise self._complaint(_EXPECTED)

    def _word(self) -> str:
        if self._peek() in ("", "!", *_OPERATORS):
            raise self._complaint("identifier")
        return self._next()

    def _value(self) -> str:
        return "" if self._peek() in ("", ",") else self._word()

    def _set(self) -> frozenset[str]:
        if self._next() != "(":
            self._at -= 1
            raise bad_request(f"unable to parse requirement: found '{self._peek()}' expected: '('")
        values = {self._value()}
        while (token := self._next()) == ",":
            values.add(self._value())
        if token != ")":  # noqa: S105 - of the grammar
            self._at -= 1
            raise self._complaint("',' or ')'")
        return frozenset(values)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One comparison of a field with a value."""

    path: str
    value: str
    equal: bool

    def matches(self, obj: Json) -> bool:
        """Return whether the object satisfies it; a field that is not there is empty."""
        match dig(obj, *self.path.split(".")):
            case None:
                found = ""
            case bool() as flag:
                found = str(flag).lower()
            case other:
                found = str(other)
        return (found == self.value) is self.equal


def _parse_fields(text: str, resource: Resource) -> tuple[FieldTerm, ...]:
    terms = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"(.*?)(!=|==|=)(.*)", part)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = found.groups()
        if path not in ("metadata.name", "metadata.namespace", *resource.fields):
            raise bad_request(f"field label not supported: {path}")
        terms.append(FieldTerm(path, value, equal=operator != "!="))
    return tuple(terms)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a list or watch are meant."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    @classmethod
    def parse(cls, resource: Resource, labels: str, fields: str) -> Selection:
        """Read ``labelSelector`` and ``fieldSelector``.

        Raises:
            Refusal: 400 if one of them cannot be read, or names a field that is not indexed.
        """
        return cls(_LabelParser(labels).parse(), _parse_fields(fields, resource))

    def matches(self, obj: Json) -> bool:
        """Return whether the object is one of them."""
        labels = metadata(obj).get("labels") or {}
        for requirement in self.labels:
            match requirement:
                case Exists() | OneOf():
                    if not requirement.matches(labels):
                        return False
                case _:
                    assert_never(requirement)
        return all(term.matches(obj) for term in self.fields)
