"""JSON forms of what goes through the agent's socket, and the way back.

Both ways follow the annotations of the values, so that a value of the service interface that gets
a new field needs nothing here. A dataclass is an object with its fields; one of a union of
dataclasses has its name besides, as ``type``. What is missing takes the field's default, and what
is unknown is ignored.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import types
import typing
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NewType, Protocol, TypeVar

from kubectl_vmredir import errors, model
from kubectl_vmredir.errors import ExitCode, MessageMalformed, VmRedirError
from kubectl_vmredir.service import interface

if TYPE_CHECKING:
    from kubectl_vmredir.model import JsonValue
    from kubectl_vmredir.service.interface import Trouble

T = TypeVar("T")

Raw = NewType("Raw", object)
"""A JSON value that is left as it is: what it means is known elsewhere."""

MAX_LINE_BYTES: Final = 64 << 20
"""A list of 10,000 VMs takes 8 MB; what is longer than this is no message of ours."""

BUG: Final = "InternalError"
"""Kind of the trouble that nobody raised on purpose."""

_TAG: Final = "type"
_NAMES: Final = {
    **vars(model),
    **vars(interface),
    "AbstractAsyncContextManager": AbstractAsyncContextManager,
    "AsyncIterator": AsyncIterator,
    "Raw": Raw,
    "Sequence": Sequence,
}
"""What annotations may name without an import at run time."""


class Codec(Protocol[T]):
    """The two ways between values of one type and JSON."""

    def encode(self, value: T) -> JsonValue:
        """Return the JSON form of a value."""

    def decode(self, data: object) -> T:
        """Return the value of a JSON form.

        Raises:
            ValueError: If it is none.
            MessageMalformed: As that, if it is known where the fault is.
        """


def hints(annotated: object) -> Mapping[str, Any]:
    """Return the annotations of a class or a function of the service interface, evaluated."""
    return typing.get_type_hints(annotated, localns=_NAMES)


def dump_line(codec: Codec[T], value: T) -> bytes:
    """Return a value as one line, with its end."""
    return json.dumps(codec.encode(value), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def load_line(codec: Codec[T], line: bytes) -> T:
    """Return the value of one line.

    Raises:
        MessageMalformed: If it is none.
    """
    try:
        data = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise MessageMalformed(f"expected a line of JSON: {_reason(exc)}") from exc
    return load(codec, data)


def load(codec: Codec[T], data: object) -> T:
    """Return the value of a JSON form.

    Raises:
        MessageMalformed: If it is none.
    """
    try:
        return codec.decode(data)
    except ValueError as exc:
        raise MessageMalformed(str(exc)) from exc


def error_of(trouble: Trouble) -> VmRedirError:
    """Return the error that a :class:`Trouble` is the value of.

    It is of the same class, which is not asked to build its sentence again. A bug of the agent is
    a plain :class:`VmRedirError`.
    """
    kind = _error_classes().get(trouble.kind, VmRedirError)
    error = kind.__new__(kind)
    VmRedirError.__init__(error, trouble.message, hint=trouble.hint or None)
    return error


def trouble_of(raised: BaseExceptionGroup[BaseException]) -> Trouble:
    """Return the value form of what ended a task group: the first error of ours, or a bug."""
    bugs = raised.split(VmRedirError)[1]
    first = _first(raised if bugs is None else bugs)
    if isinstance(first, VmRedirError):
        return interface.Trouble.of(first)
    return interface.Trouble(BUG, f"internal error: {first!r}", "", int(ExitCode.FAILURE))


def _first(raised: BaseExceptionGroup[BaseException]) -> BaseException:
    first = raised.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


@functools.cache
def codec_of(hint: Any) -> Codec[Any]:  # noqa: ANN401 - a form of annotation has no type
    """Return the codec of a type, as an annotation names it."""
    if isinstance(hint, NewType):
        return _AsItIs() if hint is Raw else codec_of(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is tuple or origin is Sequence:
        assert origin is Sequence or arguments[1:] == (...,), f"a tuple of fixed length: {hint}"
        return _Many(codec_of(arguments[0]))
    if origin is Mapping:
        assert arguments[0] is str, f"keys that are no text: {hint}"
        return _Table(codec_of(arguments[1]))
    assert isinstance(hint, type), f"no JSON form for {hint}"
    if dataclasses.is_dataclass(hint):
        return _Record(hint)
    if issubclass(hint, enum.Enum):
        return _Member(hint)
    if hint is float:
        return _Number()
    assert hint in _WORDS, f"no JSON form for {hint}"
    return _Plain(hint)


def _union(members: tuple[Any, ...]) -> Codec[Any]:
    rest = tuple(member for member in members if member is not types.NoneType)
    inner = codec_of(rest[0]) if len(rest) == 1 else _Tagged(rest)
    return inner if len(rest) == len(members) else _Optional(inner)


_WORDS: Final = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
    types.NoneType: "null",
}


class _AsItIs:
    def encode(self, value: Any) -> JsonValue:  # noqa: ANN401 - JSON of somebody else
        data: JsonValue = value
        return data

    def decode(self, data: object) -> object:
        return data


class _Plain(Generic[T]):
    """Text, whole numbers, truths and null, which are the same in JSON."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind

    def encode(self, value: T) -> JsonValue:
        assert isinstance(value, bool | int | str | None), f"no JSON form for {type(value)}"
        return value

    def decode(self, data: object) -> T:
        return _expect(self._kind, data)


class _Number:
    def encode(self, value: float) -> JsonValue:
        return value

    def decode(self, data: object) -> float:
        try:
            number = float(data) if type(data) is int else _expect(float, data)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):  # JSON knows no limit: 1e999 is read as infinite
            raise ValueError("expected a number that is not quite so large")
        return number


class _Member:
    def __init__(self, kind: type[enum.Enum]) -> None:
        self._kind = kind

    def encode(self, value: enum.Enum) -> JsonValue:
        data: JsonValue = value.value
        return data

    def decode(self, data: object) -> enum.Enum:
        for member in self._kind:
            if type(data) is type(member.value) and data == member.value:
                return member
        raise ValueError(f"expected a {self._kind.__name__}")


class _Optional:
    def __init__(self, inner: Codec[Any]) -> None:
        self._inner = inner

    def encode(self, value: object) -> JsonValue:
        return None if value is None else self._inner.encode(value)

    def decode(self, data: object) -> object:
        return None if data is None else self._inner.decode(data)


class _Many:
    def __init__(self, item: Codec[Any]) -> None:
        self._item = item

    def encode(self, value: Sequence[object]) -> JsonValue:
        return [self._item.encode(item) for item in value]

    def decode(self, data: object) -> tuple[object, ...]:
        return tuple(self._item.decode(item) for item in _expect(list, data))


class _Table:
    def __init__(self, item: Codec[Any]) -> None:
        self._item = item

    def encode(self, value: Mapping[str, object]) -> JsonValue:
        return {key: self._item.encode(item) for key, item in value.items()}

    def decode(self, data: object) -> Mapping[str, object]:
        return {key: self._item.decode(item) for key, item in _expect(dict, data).items()}


@dataclass(frozen=True, slots=True)
class _Field:
    codec: Codec[Any]
    required: bool


class _Record:
    def __init__(self, kind: type) -> None:
        evaluated = hints(kind)
        self._kind = kind
        self._fields = {
            field.name: _Field(
                codec_of(evaluated[field.name]),
                required=field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(kind)
        }
        assert _TAG not in self._fields, f"{kind} has a field that would be taken for its name"

    def encode(self, value: object) -> dict[str, JsonValue]:
        return {
            name: field.codec.encode(getattr(value, name)) for name, field in self._fields.items()
        }

    def decode(self, data: object) -> object:
        found = _expect(dict, data)
        values = {}
        for name, field in self._fields.items():
            if name in found:
                try:
                    values[name] = field.codec.decode(found[name])
                except ValueError as exc:
                    raise MessageMalformed(f"{self._kind.__name__}.{name}: {exc}") from exc
            elif field.required:
                raise MessageMalformed(f"{self._kind.__name__} without {name}")
        return self._kind(**values)


class _Tagged:
    def __init__(self, members: tuple[type, ...]) -> None:
        self._members = {member.__name__: _Record(member) for member in members}

    def encode(self, value: object) -> JsonValue:
        name = type(value).__name__
        return {_TAG: name, **self._members[name].encode(value)}

    def decode(self, data: object) -> object:
        name = _expect(dict, data).get(_TAG)
        if not isinstance(name, str) or name not in self._members:
            raise ValueError(f"expected as type one of {', '.join(self._members)}")
        return self._members[name].decode(data)


def _expect(kind: type[T], data: object) -> T:
    # Not isinstance: a bool is an int.
    if type(data) is not kind:
        raise ValueError(f"expected {_WORDS[kind]}, got {_WORDS[type(data)]}")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _reason(exc: Exception) -> str:
    """Say what is wrong, without what the line says: it may be a secret."""
    match exc:
        case UnicodeDecodeError():
            return "it is no UTF-8"
        case json.JSONDecodeError():
            return f"{exc.msg} at character {exc.pos}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return "a number is not usable"


@functools.cache
def _error_classes() -> Mapping[str, type[VmRedirError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, VmRedirError)
    }
