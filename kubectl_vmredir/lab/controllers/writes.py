"""What controllers want: one write, or to be asked again later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.clock import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.objects import Collection


@dataclass(frozen=True, slots=True)
class Create:
    """POST an object."""

    collection: Collection
    obj: JsonObject


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge-patch an object, if it is still as it was seen.

    Attributes:
        collection: Where it is.
        obj: As it was seen.
        change: Without the resourceVersion.
        subresource: ``status`` where the kind has one, else empty.
    """

    collection: Collection
    obj: JsonObject
    change: JsonObject
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE an object."""

    collection: Collection
    obj: JsonObject


@dataclass(frozen=True, slots=True)
class Bind:
    """Give a pod a node, if the node still takes pods."""

    pod: JsonObject
    node: JsonObject


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Nothing to write before that time."""

    at: datetime


Write = Create | Patch | Delete | Bind
Wish = Write | AskAgain


def phase_change(obj: JsonObject, phase: str, now: datetime) -> JsonObject:
    """Return the status with which a VMI or a migration goes to another phase."""
    times = objects.status(obj).get("phaseTransitionTimestamps") or []
    return {
        "phase": phase,
        "phaseTransitionTimestamps": [
            *times,
            {"phase": phase, "phaseTransitionTimestamp": rfc3339(now)},
        ],
    }


def without_finalizers(collection: Collection, obj: JsonObject) -> Patch | None:
    """Return the write that lets a deleted object go, None if nothing keeps it."""
    if not objects.finalizers(obj):
        return None
    return Patch(collection, obj, {"metadata": {"finalizers": None}})
