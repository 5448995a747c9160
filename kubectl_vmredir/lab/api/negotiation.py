"""How an answer is written: JSON for programs or people, YAML, a Table, metadata only."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml
from aiohttp import web

from .objects import Json, metadata, to_wire
from .requests import is_true
from .status import Refusal, not_acceptable
from .tables import definitions, partial, row, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .resources import Resource

_PEOPLE: Final = ("curl", "Wget", "Mozilla/5.0")
"""User agents for which kube-apiserver indents JSON."""


class Form(enum.Enum):
    """What objects are turned into."""

    PLAIN = enum.auto()
    TABLE = enum.auto()
    METADATA = enum.auto()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the client takes.

    Attributes:
        form: What objects are turned into.
        yaml: Whether it is written as YAML, and not as JSON.
        include: What goes along with the rows of a Table; see :func:`.tables.row`.
    """

    form: Form = Form.PLAIN
    yaml: bool = False
    include: str = ""

    @classmethod
    def parse(cls, header: str, include: str = "") -> Accepted:
        """Read an Accept header; the first clause that we can serve wins.

        Raises:
            Refusal: 406 if there is none.
        """
        for clause in (header or "*/*").split(","):
            media_type, *pairs = [part.strip() for part in clause.split(";")]
            parameters = dict(pair.partition("=")[::2] for pair in pairs)
            is_yaml = media_type == "application/yaml"
            if not is_yaml and media_type not in ("application/json", "application/*", "*/*"):
                continue
            match parameters.get("as", ""):
                case "":
                    return cls(Form.PLAIN, is_yaml, include)
                case "Table" if parameters.get("g") == "meta.k8s.io":
                    return cls(Form.TABLE, is_yaml, include)
                case "PartialObjectMetadata" | "PartialObjectMetadataList":
                    return cls(Form.METADATA, is_yaml, include)
                case _:
                    continue
        raise not_acceptable()


def base_headers() -> dict[str, str]:
    """Return the headers that each answer of kube-apiserver has."""
    return {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private"}


def answer(
    text: str, media_type: str, code: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer with exactly this media type; aiohttp would add a charset to it."""
    headers = {**(headers or {}), "Content-Type": media_type}
    return web.Response(body=text.encode(), status=code, headers=headers)


def respond(
    request: web.BaseRequest, value: Json, code: int = 200, *, as_yaml: bool = False
) -> web.Response:
    """Return an answer with a JSON (or YAML) body."""
    headers = base_headers()
    if code == 403:
        headers["X-Content-Type-Options"] = "nosniff"
    if retry_after := (value.get("details") or {}).get("retryAfterSeconds"):
        headers["Retry-After"] = str(retry_after)
    if as_yaml:
        return answer(yaml.safe_dump(value), "application/yaml", code, headers)
    agent = request.headers.get("User-Agent", "")
    pretty = is_true(request.query.get("pretty", "")) or agent.startswith(_PEOPLE)
    text = to_wire(value, indent=2) if pretty else to_wire(value) + "\n"
    return answer(text, "application/json", code, headers)


def refuse(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    """Return a refusal as an answer of kube-apiserver."""
    return respond(request, refusal.status(), refusal.code)


def one(accepted: Accepted, resource: Resource, obj: Json) -> Json:
    """Return one object in the form that is wanted."""
    match accepted.form:
        case Form.PLAIN:
            return obj
        case Form.METADATA:
            return partial(obj)
        case Form.TABLE:
            version = metadata(obj).get("resourceVersion", "")
            return table(version, definitions(resource), [row(resource, obj, accepted.include)])


def many(accepted: Accepted, resource: Resource, objects: Sequence[Json], meta: Json) -> Json:
    """Return a list of objects in the form that is wanted.

    Args:
        accepted: The form.
        resource: Their type.
        objects: The objects.
        meta: Metadata of the list.
    """
    match accepted.form:
        case Form.TABLE:
            rows = [row(resource, obj, accepted.include) for obj in objects]
            return {**table("", definitions(resource), rows), "metadata": meta}
        case Form.METADATA:
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "items": [partial(obj) for obj in objects],
            }
        case Form.PLAIN:
            items = list(objects)
            if not resource.custom:  # their items say neither kind nor version
                items = [
                    {key: obj[key] for key in obj if key not in ("kind", "apiVersion")}
                    for obj in objects
                ]
            return {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": meta,
                "items": items,
            }
