"""JSON merge patch, JSON patch, and as much of strategic merge as the lab's objects need.

Sources: RFC 7396, RFC 6902, Kubernetes' "Update API Objects in Place Using kubectl patch".
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .bodies import go_error
from .status import bad_request, rejected_patch

if TYPE_CHECKING:
    from .objects import Json

MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

_MERGE_KEYS: Final = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "taints": "key",
    "volumes": "name",
}
"""patchMergeKey of the lists in Kubernetes' own types; all other lists are replaced."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as it came.

    Attributes:
        media_type: One of the three above.
        body: Its JSON.
    """

    media_type: str
    body: bytes

    def apply(self, original: Json) -> Json:
        """Return what it makes of an object, which is left as it is.

        Raises:
            Refusal: 400 or 422 if it cannot be read or applied.
        """
        try:
            patch = json.loads(self.body)
        except ValueError as exc:
            raise bad_request(f"error decoding patch: {go_error(exc)}") from exc
        match self.media_type, patch:
            case media_type, list() if media_type == JSON_PATCH:
                return _patched(original, patch)
            case media_type, dict() if media_type != JSON_PATCH:
                return merged(original, patch, strategic=media_type == STRATEGIC)
        kind = "array" if isinstance(patch, list) else "object"
        into = "map[string]interface {}"
        if self.media_type == JSON_PATCH:
            into = "[]handlers.jsonPatchOp"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type {into}"
        )


def merged(original: Json, patch: Json, *, strategic: bool = False) -> Json:
    """Return the object with a merge patch applied."""
    result = dict(original)
    for key, value in patch.items():
        if strategic and key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = merged(old if isinstance(old, dict) else {}, value, strategic=strategic)
        elif strategic and key in _MERGE_KEYS and isinstance(result.get(key), list):
            result[key] = _merged_lists(result[key], value, _MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def _merged_lists(original: list[Json], patch: list[Json], key: str) -> list[Json]:
    result = {element.get(key): element for element in original}
    for element in patch:
        name = element.get(key)
        if element.get("$patch") == "delete":
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name, {}), element, strategic=True)
    return list(result.values())


def _patched(original: Json, operations: list[Json]) -> Json:
    document: Any = copy.deepcopy(original)
    try:
        for operation in operations:
            document = _apply_operation(document, operation)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise rejected_patch() from exc
    if not isinstance(document, dict):
        raise rejected_patch()
    return document


def _apply_operation(document: Any, operation: Json) -> Any:  # noqa: ANN401 - JSON
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, operation["value"])
        case "remove":
            _remove(document, path)
        case "replace":
            if not path:
                return operation["value"]
            # As the library of kube-apiserver does it: a member that is not there is added.
            parent = _find(document, path[:-1])
            parent[_index(parent, path[-1])] = operation["value"]
        case "move":
            source = _pointer(operation["from"])
            value = _find(document, source)
            _remove(document, source)
            return _add(document, path, value)
        case "copy":
            value = copy.deepcopy(_find(document, _pointer(operation["from"])))
            return _add(document, path, value)
        case "test":
            if _find(document, path) != operation.get("value"):
                raise ValueError(f"test failed at {operation['path']}")
        case other:
            raise ValueError(f"unknown operation {other}")
    return document


def _pointer(text: str) -> list[str]:
    """Read a JSON pointer (RFC 6901)."""
    if text and not text.startswith("/"):
        raise ValueError(f"no JSON pointer: {text}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(parent: Any, part: str) -> Any:  # noqa: ANN401 - JSON
    return int(part) if isinstance(parent, list) else part


def _find(document: Any, path: list[str]) -> Any:  # noqa: ANN401 - JSON
    for part in path:
        document = document[_index(document, part)]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:  # noqa: ANN401 - JSON
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else int(path[-1])
        if not 0 <= at <= len(parent):
            raise IndexError(at)
        parent.insert(at, value)
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> None:  # noqa: ANN401 - JSON
    parent = _find(document, path[:-1])
    del parent[_index(parent, path[-1])]
