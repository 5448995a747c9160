"""How the methods of an interface are called through a line: read off their annotations."""

from __future__ import annotations

import functools
import inspect
import typing
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubectl_vmredir.agent.wire import Raw, codec_of, hints, load
from kubectl_vmredir.errors import MessageMalformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubectl_vmredir.agent.wire import Codec


@dataclass(frozen=True, slots=True)
class Method:
    """One method of an interface.

    Attributes:
        name: Its name.
        streams: Whether it is the context manager of a stream, and not a coroutine.
        value: Codec of what it returns, or of one item of its stream.
    """

    name: str
    streams: bool
    value: Codec[Any]
    _signature: inspect.Signature
    _arguments: Mapping[str, Codec[Any]]

    def encode_arguments(self, *args: object, **kwargs: object) -> Mapping[str, Raw]:
        """Return the JSON form of the arguments of a call."""
        bound = self._signature.bind(None, *args, **kwargs)
        return {
            name: Raw(self._arguments[name].encode(value))
            for name, value in bound.arguments.items()
            if name in self._arguments
        }

    def decode_arguments(self, arguments: Mapping[str, Raw]) -> Mapping[str, Any]:
        """Return the arguments of a call, for its keywords.

        Raises:
            MessageMalformed: If they are not those of this method.
        """
        for name, parameter in self._signature.parameters.items():
            missing = parameter.default is parameter.empty and name not in arguments
            if missing and name in self._arguments:
                raise MessageMalformed(f"{self.name}() without {name}")
        if unknown := arguments.keys() - self._arguments.keys():
            raise MessageMalformed(f"{self.name}() takes no {sorted(unknown)[0][:40]!r}")
        return {name: load(self._arguments[name], value) for name, value in arguments.items()}


@functools.cache
def method_of(function: Callable[..., object]) -> Method:
    """Return how a method of an interface is called."""
    annotations = dict(hints(function))
    value = annotations.pop("return")
    streams = typing.get_origin(value) is AbstractAsyncContextManager
    if streams:
        (iterator,) = typing.get_args(value)
        (value,) = typing.get_args(iterator)
    return Method(
        name=function.__name__,
        streams=streams,
        value=codec_of(value),
        _signature=inspect.signature(function),
        _arguments={name: codec_of(hint) for name, hint in annotations.items()},
    )


@functools.cache
def methods_of(interface: type) -> Mapping[str, Method]:
    """Return all methods of an interface, by name."""
    return {
        name: method_of(function)
        for name, function in vars(interface).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
