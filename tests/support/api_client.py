"""A Kubernetes client of a scripted server, both for the time of a test."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from tests.support.scripted_server import Exchange, Script, ScriptedServer


@asynccontextmanager
async def client_of(
    script: Script, **changes: object
) -> AsyncIterator[tuple[KubeClient, ScriptedServer]]:
    """Give a client of a server that does as told, and the server; plain http, no delays."""
    async with ScriptedServer(script) as server:
        fields = {"server": server.url, "user": UserConfig(token="s3cret")}
        config = ClusterConfig(**{**fields, **changes})  # type: ignore[arg-type]
        async with KubeClient(config, backoff=lambda: itertools.repeat(0.0)) as client:
            yield client, server


def query(exchange: Exchange) -> dict[str, str]:
    """Return the query of a request."""
    _path, _, text = exchange.target.partition("?")
    return dict(pair.split("=", 1) for pair in text.split("&")) if text else {}


def content(exchange: Exchange) -> Any:  # noqa: ANN401 - decoded JSON
    """Return the body of a request."""
    return json.loads(exchange.body)


def status(code: int, reason: str, message: str = "") -> Mapping[str, Any]:
    """Return a Status object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def thing(name: str, version: int | str = 1, uid: str = "") -> Mapping[str, Any]:
    """Return an object with nothing but metadata."""
    return {
        "kind": "Thing",
        "metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)},
    }


def listing(*items: Mapping[str, Any], version: int = 1, following: str = "") -> Mapping[str, Any]:
    """Return a list, or one page of it."""
    metadata = {"resourceVersion": str(version)}
    if following:
        metadata["continue"] = following
    return {"kind": "ThingList", "metadata": metadata, "items": list(items)}
