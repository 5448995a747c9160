"""The JSON schemas of all that ``-o json`` prints, made of the values that are printed.

They are kept in docs/schemas. To write them anew: python -m tests.support.json_schemas
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NewType

from jsonschema import Draft202012Validator

from kubectl_vmredir.agent.control import AgentStatus
from kubectl_vmredir.agent.wire import hints
from kubectl_vmredir.cli.commands.devices import DEVICES
from kubectl_vmredir.cli.commands.doctor import CHECKS
from kubectl_vmredir.cli.commands.events import EVENTS, EventRow
from kubectl_vmredir.cli.commands.slots import SLOTS, SlotRow
from kubectl_vmredir.cli.commands.status import REDIRECTIONS, RedirectionRow
from kubectl_vmredir.cli.output import API_VERSION
from kubectl_vmredir.model import Check, DeviceUse, LocalDevice
from kubectl_vmredir.service.interface import BindPlan, RedirectionStatus

FOLDER: Final = Path(__file__).parents[2] / "docs" / "schemas"

Schema = dict[str, Any]

_PLAIN: Final = {
    bool: "boolean",
    float: "number",
    int: "integer",
    str: "string",
    types.NoneType: "null",
}


class _Definitions:
    """Schemas of dataclasses and enumerations, by their names."""

    def __init__(self) -> None:
        self.all: dict[str, Schema] = {}

    def of(self, hint: Any) -> Schema:  # noqa: ANN401 - a form of annotation has no type
        """Return the schema of a type, as an annotation names it."""
        if isinstance(hint, NewType):
            return self.of(hint.__supertype__)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(argument) for argument in arguments]}
        if origin in (tuple, Sequence):
            return {"type": "array", "items": self.of(arguments[0])}
        if dataclasses.is_dataclass(hint) or issubclass(hint, enum.Enum):
            return self._named(hint)
        return {"type": _PLAIN[hint]}

    def _named(self, kind: type) -> Schema:
        if kind.__name__ not in self.all:
            self.all[kind.__name__] = {}  # it may be part of itself
            self.all[kind.__name__] = (
                {"enum": [member.value for member in kind]}
                if issubclass(kind, enum.Enum)
                else self.record(kind)
            )
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def record(self, kind: type, /, **more: object) -> Schema:
        """Return the schema of a dataclass, all of whose fields are printed.

        Args:
            kind: The dataclass.
            more: Types of what is printed besides, or instead of its fields.
        """
        assert dataclasses.is_dataclass(kind)
        said = _attributes(kind)
        found = {field.name: hints(kind)[field.name] for field in dataclasses.fields(kind)} | more
        return _object(
            {
                name: self.of(hint) | ({"description": said[name]} if name in said else {})
                for name, hint in found.items()
            },
            description=(inspect.getdoc(kind) or "").partition("\n")[0],
        )


def _attributes(kind: type) -> Mapping[str, str]:
    """Return what the docstring of a class says of its attributes."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    section = section.partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _object(properties: Mapping[str, object], **more: str) -> Schema:
    return {
        "type": "object",
        **{name: text for name, text in more.items() if text},
        "required": list(properties),
        "properties": dict(properties),
    }


def _document(kind: str, command: str, schema: Schema, definitions: _Definitions) -> Schema:
    properties = {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vmredir.io:v1alpha1:{kind}",
        "title": kind,
        "description": f"What is printed by: kubectl vmredir {command}",
        "type": "object",
        "required": [*properties, *schema["required"]],
        "properties": {**properties, **schema["properties"]},
        "$defs": definitions.all,
    }


def _listing(kind: str, command: str, item: type, /, **more: object) -> Schema:
    definitions = _Definitions()
    definitions.all[item.__name__] = definitions.record(item, **more)
    items = {"type": "array", "items": {"$ref": f"#/$defs/{item.__name__}"}}
    return _document(kind, command, _object({"items": items}), definitions)


def _record(kind: str, command: str, value: type) -> Schema:
    definitions = _Definitions()
    return _document(kind, command, definitions.record(value), definitions)


def _bind_plan() -> Schema:
    definitions = _Definitions()
    definitions.all[LocalDevice.__name__] = definitions.record(LocalDevice, kind=str)
    schema = definitions.record(BindPlan)
    return _document("BindPlan", "bind --dry-run -o json", schema, definitions)


def _redirection() -> Schema:
    definitions = _Definitions()
    schema = _object({"status": definitions.of(RedirectionStatus)})
    return _document("Redirection", "bind -o json", schema, definitions)


def _version() -> Schema:
    texts = {name: {"type": "string"} for name in ("version", "python", "platform")}
    return _document("Version", "version -o json", _object(texts), _Definitions())


SCHEMAS: Final[Mapping[str, Schema]] = {
    schema["title"]: schema
    for schema in (
        _record("AgentStatus", "agent status -o json", AgentStatus),
        _bind_plan(),
        _listing(CHECKS.kind, "doctor -o json", Check),
        _listing(EVENTS.kind, "events -o json", EventRow),
        _listing(DEVICES.kind, "devices -o json", LocalDevice, kind=str, use=DeviceUse),
        _redirection(),
        _listing(REDIRECTIONS.kind, "status -o json", RedirectionRow),
        _listing(SLOTS.kind, "slots -o json", SlotRow),
        _version(),
    )
}
"""Schemas by the kind of the document."""


def text_of(schema: Schema) -> str:
    """Return a schema as it is kept."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def validate(document: Mapping[str, Any]) -> None:
    """Return if a document is one of its kind, with nothing in it that the schema does not name.

    Raises:
        ValidationError: If it is not.
    """
    Draft202012Validator(_closed(SCHEMAS[document["kind"]])).validate(document)


def _closed(schema: Schema) -> Schema:
    inner: Schema = {
        name: _closed(value) if isinstance(value, dict) else value for name, value in schema.items()
    }
    if "anyOf" in inner:
        inner["anyOf"] = [_closed(one) for one in inner["anyOf"]]
    return inner | ({"additionalProperties": False} if "properties" in inner else {})


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for kind, schema in SCHEMAS.items():
        (FOLDER / f"{kind}.json").write_text(text_of(schema), encoding="utf-8")
