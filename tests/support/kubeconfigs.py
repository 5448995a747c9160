"""Kubeconfig files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Entry = Mapping[str, Any]


def kubeconfig(
    *,
    current: str = "",
    contexts: Mapping[str, Entry] | None = None,
    clusters: Mapping[str, Entry] | None = None,
    users: Mapping[str, Entry] | None = None,
) -> dict[str, Any]:
    """Return the content of a kubeconfig; names map to what stands below context, cluster, user."""
    content: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    if current:
        content["current-context"] = current
    for key, kind, entries in (
        ("contexts", "context", contexts),
        ("clusters", "cluster", clusters),
        ("users", "user", users),
    ):
        content[key] = [{"name": name, kind: entry} for name, entry in (entries or {}).items()]
    return content


def one_cluster(cluster: Entry | None = None, user: Entry | None = None) -> dict[str, Any]:
    """Return a kubeconfig with one context, for the server ``https://api.example:6443``."""
    return kubeconfig(
        current="here",
        contexts={"here": {"cluster": "prod", "user": "alice", "namespace": "vms"}},
        clusters={"prod": {"server": "https://api.example:6443", **(cluster or {})}},
        users={"alice": user or {"token": "t0ken"}},
    )


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a kubeconfig, return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(content)))
    return path
